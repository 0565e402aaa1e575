"""The HTTP side's view of the engine: start it, send it requests, hear what becomes of them, notice when it dies."""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from orcinus.config import EngineConfig
from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish
from orcinus.errors import ConfigError, EngineError
from orcinus.serve.messages import (
    Cancel,
    Failed,
    Iteration,
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
from orcinus.text.answer import Answer, Piece, RequestMetrics
from orcinus.text.intake import Prepared

QUEUED_PIECES = 4096  # a reader that is so far behind is cut off


@dataclass(frozen=True, slots=True)
class PromptRead:
    """How far a prompt has been read, for one of the answers to it."""

    index: int
    choice: int
    computed: int
    cached: int


Inbox = asyncio.Queue[Piece | PromptRead]  # what its reader has not taken yet; the answers of one call may share it


@dataclass(slots=True)
class Stream:
    """One answer on its way: as far as it has come, and where its pieces go."""

    answer: Answer
    inbox: Inbox


@dataclass(slots=True)
class EngineState:
    """What the last iterations said about the engine."""

    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    last_sign: float = 0.0  # on this process's monotonic clock
    tokens_per_second: float = 0.0  # generated, averaged over the last seconds


@dataclass
class EngineClient:
    """Owns the engine process. All methods belong to one event loop."""

    config: EngineConfig
    decode: Callable[[Any], str] = field(default=lambda ids: "")
    state: EngineState = field(default_factory=EngineState)
    dead: str | None = None  # why the engine is gone

    def __post_init__(self) -> None:
        self._streams: dict[str, Stream] = {}
        self._numbers = itertools.count(1)
        self._asked: deque[asyncio.Future[Using]] = deque()  # switches whose answer is still to come, in their order
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
        self.state.last_sign = time.monotonic()
        self.state.free_blocks = message.num_blocks
        self._listener = asyncio.create_task(self._listen())
        return message

    def submit(self, prepared: Prepared, inbox: Inbox, deadline: float | None = None) -> str:
        """Queue a request; its pieces go to the inbox. Raises `EngineError` if the engine is gone."""
        if self.dead is not None:
            raise EngineError(self.dead)
        name = f"q{next(self._numbers)}"
        metrics = RequestMetrics(time.monotonic())
        answer = Answer(name, prepared.index, prepared.choice, prepared.params, self.decode, metrics)
        self._streams[name] = Stream(answer, inbox)
        who, wire = prepared.standing, params_to_wire(prepared.params)
        self._send(Submit(name, list(prepared.ids), wire, who.priority, who.client, who.cache_salt, deadline))
        return name

    def cancel(self, name: str) -> bool:
        """End a request if it has not ended. Whoever reads it hears of it."""
        if name not in self._streams:
            return False
        self._send(Cancel(name))
        stream = self._streams.pop(name)
        stream.inbox.put_nowait(stream.answer.end(Finished(name, Finish.CANCELLED, time.monotonic())))
        return True

    async def use(self, change: Use) -> Using:
        """Switch policy, order or limits. Raises `ConfigError` if the engine refuses, `EngineError` if it is gone."""
        if self.dead is not None:
            raise EngineError(self.dead)
        answer: asyncio.Future[Using] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._send(change)
        return await answer

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
                case Using():
                    self._answer(message)
                case Refused():
                    self._answer(ConfigError(message.reason))
                case Failed():
                    self._bury(message.reason)

    def _take(self, iteration: Iteration) -> None:
        now = time.monotonic()
        state = self.state
        state.running, state.waiting, state.free_blocks = iteration.running, iteration.waiting, iteration.free_blocks
        state.last_sign = now
        if iteration.seconds > 0 and iteration.tokens:
            rate = len(iteration.tokens) / iteration.seconds
            state.tokens_per_second += 0.1 * (rate - state.tokens_per_second) if state.tokens_per_second else rate
        for step in iteration.progress:
            stream = self._streams.get(step.id)
            if stream is not None:
                answer = stream.answer
                stream.inbox.put_nowait(PromptRead(answer.index, answer.choice, step.computed, step.cached))
        for wire in iteration.tokens:
            stream = self._streams.get(wire.id)
            if stream is not None:
                self._add(stream, token_from_wire(wire))
        for ending in iteration.endings:
            stream = self._streams.pop(ending.id, None)
            if stream is not None:
                stream.inbox.put_nowait(stream.answer.end(ending_from_wire(ending)))

    def _add(self, stream: Stream, token: Token) -> None:
        piece = stream.answer.add(token)
        if piece is None:
            return
        stream.inbox.put_nowait(piece)
        if stream.answer.stopped:  # a stop string: the engine cannot see it, so it is told
            name = stream.answer.request_id
            self._send(Cancel(name, stop=True))
            del self._streams[name]
            stream.inbox.put_nowait(stream.answer.end(Finished(name, Finish.STOP, token.at)))
        elif stream.inbox.qsize() > QUEUED_PIECES:
            self.cancel(stream.answer.request_id)

    def _answer(self, answer: Using | Exception) -> None:
        """Tell whoever asked first."""
        future = self._asked.popleft()
        if future.done():  # it did not want to wait
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _bury(self, reason: str) -> None:
        """Everybody who waits hears that the engine is gone."""
        self.dead = reason
        while self._asked:
            self._answer(EngineError(reason))
        for name, stream in list(self._streams.items()):
            stream.inbox.put_nowait(stream.answer.end(Finished(name, Finish.FAILED, time.monotonic(), reason)))
        self._streams.clear()
