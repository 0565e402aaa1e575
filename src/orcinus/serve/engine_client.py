"""The HTTP side's view of the engine: start it, send it requests, hear what becomes of them, notice when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import zmq
import zmq.asyncio

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish
from orcinus.errors import ConfigError, EngineError
from orcinus.parent import signals_held
from orcinus.serve.engines import Asked, to_wire
from orcinus.serve.messages import (
    Ask,
    Cancel,
    Failed,
    Iteration,
    Life,
    Loading,
    Pause,
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
from orcinus.serve.retry_after import Progress
from orcinus.serve.socket_folder import SocketFolder
from orcinus.text.answer import Answer, Piece, RequestMetrics
from orcinus.text.intake import Prepared
from orcinus.text.reasoning import Reasoning
from orcinus.text.tokenizer import Tokenizer

LAST_WORDS_S = 0.2
ANSWER_S = 10.0  # that the engine may take to answer a question
QUEUED_NEWS = 4096  # a reader that is so far behind is cut off


@dataclass(frozen=True, slots=True)
class PromptRead:
    """How far a prompt has been read, for one of the answers to it."""

    index: int
    choice: int
    computed: int
    cached: int


News = Piece | PromptRead | Life  # what a reader hears of its requests; `Life` comes right before the last piece
Inbox = asyncio.Queue[News | None]  # what it has not taken yet; None wakes it up because its client is gone


@dataclass(slots=True)
class Stream:
    """One answer on its way: as far as it has come, and where its news goes."""

    answer: Answer
    inbox: Inbox
    cached: int | None = None  # how much of the prompt was found in the prefix cache, once it is read


@dataclass(slots=True)
class EngineState:
    """What the last iterations said about the engine."""

    loading: Loading = field(default_factory=lambda: Loading("starting", 0, 0))
    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    last_sign: float = 0.0  # on this process's monotonic clock
    slowest: float = 0.0  # seconds of the slowest iteration, slowly forgotten


@dataclass
class EngineClient:
    """Owns the engine process. All methods belong to one event loop."""

    config: Asked
    tokenizer: Tokenizer | None = None  # once it is loaded
    state: EngineState = field(default_factory=EngineState)
    dead: str | None = None  # why the engine is gone

    def __post_init__(self) -> None:
        self.listeners: list[Callable[[Iteration], None]] = []  # who hears every iteration, before the requests do
        self._streams: dict[str, Stream] = {}
        self._asked: deque[asyncio.Future[Using | Life]] = deque()  # whose answer is still to come, in their order
        self._folder = SocketFolder()
        self._process: subprocess.Popen[bytes] | None = None
        self._gone: asyncio.Future[int] | None = None  # its exit status
        self._listener: asyncio.Task[None] | None = None
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket = self._context.socket(zmq.PAIR)

    async def start(self) -> Ready:
        """Start the process and wait until the model is loaded. Raises `ConfigError` with the engine's own reason."""
        self._socket.set_hwm(0)
        self._socket.bind(self._folder.address)
        command = [sys.executable, "-m", "orcinus.serve.engine_process", self._folder.address, str(os.getpid())]
        with signals_held():  # this process decides what a signal means, even if both get it
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self._gone = asyncio.ensure_future(asyncio.to_thread(self._process.wait))
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is gone already, as its exit status will tell
            self._process.stdin.write(to_wire(self.config))
            self._process.stdin.close()
        while True:
            message = await self._receive()
            match message:
                case Loading():
                    self.state.loading = message
                case Failed():
                    await self._gone
                    raise ConfigError(message.reason)
                case Ready():
                    self.state.last_sign = time.monotonic()
                    self.state.free_blocks = message.num_blocks
                    self._listener = asyncio.create_task(self._listen())
                    return message
                case int():
                    raise ConfigError(f"the engine process {ended(message)} before it was ready")

    def submit(self, name: str, prepared: Prepared, inbox: Inbox, deadline: float | None = None) -> None:
        """Queue a request under a name of the server's own; its news goes to the inbox. Raises `EngineError`."""
        if self.dead is not None:
            raise EngineError(self.dead)
        self._streams[name] = Stream(self._collector(prepared, name), inbox)
        self._send(Submit(name, list(prepared.ids), params_to_wire(prepared.params), prepared.context, deadline))

    def _collector(self, one: Prepared, name: str) -> Answer:
        thinks, metrics = one.thinking is not None, RequestMetrics(time.monotonic())
        shown = {"skip_special_tokens": one.params.skip_special_tokens, "thinks": thinks, "echo": one.echo}
        detokenizer = self.tokenizer.detokenizer(one.ids, **shown) if self.tokenizer else None
        split = None if one.thinking is None else Reasoning(open=one.thinking)
        return Answer(name, one.index, one.choice, one.params, detokenizer, metrics, split)

    def cancel(self, name: str, error: str | None = None) -> bool:
        """End a request if it has not ended. Whoever reads it hears of it, and why."""
        if name not in self._streams:
            return False
        self._send(Cancel(name))
        stream = self._streams.pop(name)
        stream.inbox.put_nowait(stream.answer.end(Finished(name, Finish.CANCELLED, time.monotonic(), error)))
        return True

    def pause(self, paused: bool) -> None:
        """Let the engine start no more iterations, or go on."""
        self._send(Pause(paused))

    async def use(self, change: Use) -> Using:
        """Switch policy, order or limits. Raises `ConfigError` if the engine refuses, `EngineError` if it is gone."""
        found = await self._ask(change)
        assert isinstance(found, Using)
        return found

    async def life(self, name: str) -> Life:
        """Where the time of a request went. Raises `ConfigError` if it is unknown, `EngineError` if the engine is gone."""
        found = await self._ask(Ask(name))
        assert isinstance(found, Life)
        return found

    async def _ask(self, question: Use | Ask) -> Using | Life:
        if self.dead is not None:
            raise EngineError(self.dead)
        answer: asyncio.Future[Using | Life] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._send(question)
        try:
            async with asyncio.timeout(max(ANSWER_S, 10 * self.state.slowest)):
                return await answer
        except TimeoutError:
            raise EngineError("the engine does not answer") from None

    def arrival(self, name: str) -> float | None:
        """When a live request came, on the machine's monotonic clock, which is the engine's too."""
        stream = self._streams.get(name)
        return None if stream is None else stream.answer.metrics.arrival

    def progress(self, name: str) -> Progress | None:
        """How far a live request is."""
        stream = self._streams.get(name)
        return None if stream is None else _progress(stream.answer)

    def all_progress(self) -> list[Progress]:
        """How far all live requests are, the oldest first."""
        return [_progress(stream.answer) for stream in self._streams.values()]

    @property
    def live(self) -> int:
        """Answers that have not ended."""
        return len(self._streams)

    async def close(self) -> None:
        """Stop the process, with force if it does not go by itself. Whoever still reads hears of it."""
        if self.dead is None:
            self._bury("the server is leaving")
        if self._listener is not None:
            self._listener.cancel()
        if self._process is not None and self._gone is not None and not self._gone.done():
            self._socket.send(encode(Stop()))
            await asyncio.wait((self._gone,), timeout=3.0)
            if not self._gone.done():
                self._process.kill()
                await self._gone
        self._socket.close(linger=0)
        self._context.term()
        self._folder.remove()

    def _send(self, message: ToEngine) -> None:
        if self.dead is None:
            self._socket.send(encode(message))

    async def _receive(self) -> Any:
        """The next message, or the exit status of a process that has ended without another one."""
        assert self._gone is not None
        heard = asyncio.ensure_future(self._socket.recv())
        await asyncio.wait((heard, self._gone), return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():  # its last words may still be on their way
            await asyncio.wait((heard,), timeout=LAST_WORDS_S)
        if heard.done():
            return decode_from_engine(heard.result())
        heard.cancel()
        return self._gone.result()

    async def _listen(self) -> None:
        """Hand out what the engine says, until it is gone."""
        while True:
            message = await self._receive()
            match message:
                case Iteration():
                    self._take(message)
                case Using() | Life():
                    self._answer(message)
                case Refused():
                    self._answer(ConfigError(message.reason))
                case Failed():
                    self._bury(message.reason)
                case int():
                    self._bury(f"the engine process {ended(message)}")
                    return

    def _take(self, iteration: Iteration) -> None:
        self._note(iteration)
        for listener in tuple(self.listeners):
            listener(iteration)
        for launch in iteration.launched:
            for ran in launch.ran:
                if ran.prefill and (stream := self._streams.get(ran.id)) is not None:
                    if stream.cached is None:
                        stream.cached = ran.start
                    read = ran.start + ran.tokens, stream.cached
                    stream.inbox.put_nowait(PromptRead(stream.answer.index, stream.answer.choice, *read))
        for wire in iteration.tokens:
            stream = self._streams.get(wire.id)
            if stream is not None:
                self._add(stream, token_from_wire(wire))
        for ending in iteration.endings:
            stream = self._streams.pop(ending.id, None)
            if stream is not None:
                if ending.life is not None:
                    stream.inbox.put_nowait(ending.life)
                stream.inbox.put_nowait(stream.answer.end(ending_from_wire(ending)))

    def _note(self, iteration: Iteration) -> None:
        state = self.state
        state.running, state.waiting, state.free_blocks = iteration.running, iteration.waiting, iteration.free_blocks
        state.last_sign = time.monotonic()
        if iteration.launched:
            state.slowest = max(iteration.seconds, 0.99 * state.slowest)

    def _add(self, stream: Stream, token: Token) -> None:
        piece = stream.answer.add(token)
        if piece is None:
            return
        stream.inbox.put_nowait(piece)
        if stream.answer.stopped:  # a stop string: the engine cannot see it, so it is told, and will say that it has ended
            self._send(Cancel(stream.answer.request_id, stop=True))
        elif stream.inbox.qsize() > QUEUED_NEWS:
            self.cancel(stream.answer.request_id)

    def _answer(self, answer: Using | Life | Exception) -> None:
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


def ended(status: int) -> str:
    """How a process ended, in words, from the exit status that `subprocess` gives it."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (when memory runs out, the system does so)" if -status == signal.SIGKILL else "")


def _progress(answer: Answer) -> Progress:
    return Progress(len(answer.token_ids), answer.params.max_tokens or 1)
