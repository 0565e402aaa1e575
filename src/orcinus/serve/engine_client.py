"""The HTTP side's view of the engine: start it, send it requests, hear what becomes of them, notice when it dies."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from orcinus.config import EngineConfig
from orcinus.core.batch import Finished
from orcinus.core.request import Finish
from orcinus.errors import ConfigError, EngineError
from orcinus.serve.messages import (
    Cancel,
    Failed,
    Iteration,
    Progress,
    Ready,
    Refused,
    Stop,
    Submit,
    ToEngine,
    Use,
    Using,
    decode_from_engine,
    encode,
    ending_from_wire,
    params_to_wire,
    token_from_wire,
)
from orcinus.text.answer import Answer, Piece
from orcinus.text.intake import Prepared

QUEUED_PIECES = 4096  # a reader that is so far behind is cut off


@dataclass(slots=True)
class Stream:
    """One request on its way: its answer so far, and the pieces its reader has not taken yet."""

    answer: Answer
    pieces: asyncio.Queue[Piece | Progress]
    prompt_tokens: int
    submitted: float
    first_token: float | None = None


@dataclass(slots=True)
class EngineState:
    """What the last iterations said about the engine."""

    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    last_sign: float = 0.0  # on this process's monotonic clock
    iterations: int = 0
    tokens_per_second: float = 0.0  # generated, averaged over the last seconds


@dataclass
class EngineClient:
    """Owns the engine process. All methods belong to one event loop."""

    config: EngineConfig
    decode: Callable[[Any], str] = field(default=lambda ids: "")
    on_iteration: Callable[[Iteration], None] = lambda iteration: None
    state: EngineState = field(default_factory=EngineState)
    ready: Ready | None = None
    dead: str | None = None  # why the engine is gone

    def __post_init__(self) -> None:
        self._streams: dict[str, Stream] = {}
        self._numbers = itertools.count(1)
        self._answers: asyncio.Queue[Using | Refused] = asyncio.Queue()
        self._folder = tempfile.TemporaryDirectory(prefix="orcinus-")
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket = self._context.socket(zmq.PAIR)

    async def start(self) -> Ready:
        """Start the process and wait until the model is loaded. Raises `ConfigError` with the engine's own reason."""
        address = f"ipc://{Path(self._folder.name) / 'engine'}"
        self._socket.set_hwm(0)
        self._socket.bind(address)
        command = [sys.executable, "-m", "orcinus.serve.engine_process", address]
        # In a session of its own a terminal's Ctrl-C does not reach it: this process decides what a signal means.
        self._process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, start_new_session=True)
        settings = {name: value for name, value in asdict(self.config).items() if value is not None}
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(settings, enc_hook=str))
        self._process.stdin.close()
        first = asyncio.ensure_future(self._socket.recv())
        gone = asyncio.ensure_future(self._process.wait())
        await asyncio.wait((first, gone), return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            first.cancel()
            raise ConfigError(f"the engine process ended with status {gone.result()} before it was ready")
        gone.cancel()
        message = decode_from_engine(first.result())
        if isinstance(message, Failed):
            await self._process.wait()
            raise ConfigError(message.reason)
        assert isinstance(message, Ready)
        self.ready, self.state.last_sign = message, time.monotonic()
        self.state.free_blocks = message.num_blocks
        self._listener = asyncio.create_task(self._listen())
        return message

    def submit(
        self, prepared: Prepared, index: int, choice: int, metrics: Any, deadline: float | None = None, progress: bool = False
    ) -> str:
        """Queue a request; its pieces come from `read`. Raises `EngineError` if the engine is gone."""
        if self.dead is not None:
            raise EngineError(self.dead)
        name = f"q{next(self._numbers)}"
        answer = Answer(name, index, choice, prepared.params, self.decode, metrics)
        self._streams[name] = Stream(answer, asyncio.Queue(), len(prepared.ids), time.monotonic())
        who = prepared.standing
        wire = params_to_wire(prepared.params)
        self._send(Submit(name, list(prepared.ids), wire, who.priority, who.client, who.cache_salt, deadline))
        return name

    async def read(self, name: str) -> AsyncIterator[Piece | Progress]:
        """The pieces of a request as they come, and progress in between. Leaving early cancels it."""
        stream = self._streams[name]
        try:
            while True:
                piece = await stream.pieces.get()
                yield piece
                if isinstance(piece, Piece) and piece.finish_reason:
                    return
        finally:
            self.cancel(name)

    def cancel(self, name: str) -> bool:
        """End a request if it has not ended. Whoever reads it hears of it."""
        if name not in self._streams:
            return False
        self._send(Cancel(name))
        stream = self._streams.pop(name)
        ended = stream.answer.end(Finished(name, Finish.CANCELLED, time.monotonic()))
        stream.pieces.put_nowait(ended)
        return True

    async def use(self, change: Use) -> Using:
        """Switch policy, order or limits. Raises `ConfigError` if the engine refuses."""
        if self.dead is not None:
            raise EngineError(self.dead)
        self._send(change)
        answer = await self._answers.get()
        if isinstance(answer, Refused):
            raise ConfigError(answer.reason)
        return answer

    @property
    def live(self) -> int:
        """Requests that have not ended."""
        return len(self._streams)

    async def close(self) -> None:
        """Stop the process, with force if it does not go by itself. Whoever still reads hears of it."""
        if self.dead is None:
            self._bury("the server is leaving")
        if self._listener is not None:
            self._listener.cancel()
        if self._process is not None and self._process.returncode is None:
            self._socket.send(encode(Stop()))
            try:
                await asyncio.wait_for(self._process.wait(), 3.0)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._socket.close(linger=0)
        self._context.term()
        self._folder.cleanup()

    def _send(self, message: ToEngine) -> None:
        if self.dead is None:
            self._socket.send(encode(message))

    async def _listen(self) -> None:
        """Hand out what the engine says, until it is gone."""
        assert self._process is not None
        gone = asyncio.ensure_future(self._process.wait())
        while True:
            heard = asyncio.ensure_future(self._socket.recv())
            await asyncio.wait((heard, gone), return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                heard.cancel()
                self._bury(f"the engine process ended with status {gone.result()}")
                return
            message = decode_from_engine(heard.result())
            match message:
                case Iteration():
                    self._take(message)
                case Using() | Refused():
                    self._answers.put_nowait(message)
                case Failed():
                    self._bury(message.reason)

    def _take(self, iteration: Iteration) -> None:
        now = time.monotonic()
        state = self.state
        state.running, state.waiting, state.free_blocks = iteration.running, iteration.waiting, iteration.free_blocks
        state.last_sign = now
        if iteration.seconds > 0 and iteration.tokens:
            state.iterations += 1
            rate = len(iteration.tokens) / iteration.seconds
            state.tokens_per_second += 0.1 * (rate - state.tokens_per_second) if state.tokens_per_second else rate
        for step in iteration.progress:
            stream = self._streams.get(step.id)
            if stream is not None:
                stream.pieces.put_nowait(step)
        for wire in iteration.tokens:
            stream = self._streams.get(wire.id)
            if stream is not None:
                self._add(stream, token_from_wire(wire), now)
        for ending in iteration.endings:
            stream = self._streams.pop(ending.id, None)
            if stream is not None:
                stream.pieces.put_nowait(stream.answer.end(ending_from_wire(ending)))
        self.on_iteration(iteration)

    def _add(self, stream: Stream, token: Any, now: float) -> None:
        if stream.first_token is None:
            stream.first_token = now
        piece = stream.answer.add(token)
        if piece is None:
            return
        stream.pieces.put_nowait(piece)
        if stream.answer.stopped:  # a stop string: the engine cannot see it, so it is told
            name = stream.answer.request_id
            self._send(Cancel(name, stop=True))
            del self._streams[name]
            stream.pieces.put_nowait(stream.answer.end(Finished(name, Finish.STOP, token.at)))
        elif stream.pieces.qsize() > QUEUED_PIECES:
            self.cancel(stream.answer.request_id)

    def _bury(self, reason: str) -> None:
        """Everybody who waits hears that the engine is gone."""
        self.dead = reason
        for name, stream in list(self._streams.items()):
            stream.pieces.put_nowait(stream.answer.end(Finished(name, Finish.FAILED, time.monotonic(), reason)))
        self._streams.clear()
