"""The engine as HTTP sees it: process, wire and streams."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from orcinus.errors import ConfigError, EngineError
from orcinus.observe.timeline import Timeline
from orcinus.parent import describe_exit
from orcinus.serve.engine_process import EngineProcess
from orcinus.serve.engines import Asked
from orcinus.serve.messages import (
    Ask,
    EngineFailed,
    EngineOutput,
    FromEngine,
    Loading,
    Pause,
    Ready,
    Refused,
    Stop,
    TimelineFound,
    ToEngine,
    Use,
    Using,
)
from orcinus.serve.streams import Inbox, Streams
from orcinus.serve.wire import ServerWire
from orcinus.text.input_processor import TokenizedRequest

LAST_WORDS_S = 0.2  # for messages of a process that has ended
ANSWER_S = 10.0  # that the engine may take to answer a question

Reply = Using | TimelineFound


@dataclass(slots=True)
class EngineState:
    """What the last iterations said about the engine."""

    loading: Loading = field(default_factory=lambda: Loading("starting", 0, 0))
    last_sign: float = 0.0  # on this process's monotonic clock
    slowest: float = 0.0  # seconds of the slowest iteration, slowly forgotten


class EngineClient:
    """Owns the engine process. All methods belong to one event loop."""

    def __init__(self, config: Asked) -> None:
        self.config = config
        self.state = EngineState()
        self.dead: str | None = None  # why the engine is gone
        self.listeners: list[Callable[[EngineOutput], None]] = []  # called with every iteration, before its requests' readers
        self.streams = Streams(self._send)
        self._wire = ServerWire()
        self._process: EngineProcess | None = None
        self._asked: deque[asyncio.Future[Reply]] = deque()  # open questions, in their order
        self._listener: asyncio.Task[None] | None = None

    async def start(self) -> Ready:
        """Start the process and wait until the model is loaded. Raises `ConfigError` with the engine's own reason."""
        self._process = EngineProcess(self.config, self._wire.bind())
        while True:
            message = await self._receive(self._process)
            match message:
                case Loading():
                    self.state.loading = message
                case EngineFailed():
                    await self._process.ended
                    raise ConfigError(message.reason)
                case Ready():
                    self.state.last_sign = time.monotonic()
                    self._listener = asyncio.create_task(self._listen(self._process))
                    return message
                case int():
                    raise ConfigError(f"the engine process {describe_exit(message)} before it was ready")

    def submit(self, name: str, prepared: TokenizedRequest, inbox: Inbox, time_left: float | None = None) -> None:
        """Queue a request; its news goes to the inbox.

        `name` is the server's own. Raises `EngineError`.
        """
        if self.dead is not None:
            raise EngineError(self.dead)
        self._send(self.streams.open(name, prepared, inbox, time_left))

    def pause(self, paused: bool) -> None:
        """Let the engine start no more iterations, or go on."""
        self._send(Pause(paused))

    async def use(self, change: Use) -> Using:
        """Switch policy, order or limits. Raises `ConfigError` if the engine refuses, `EngineError` if it is gone."""
        found = await self._ask(change)
        assert isinstance(found, Using)
        return found

    async def timeline(self, name: str) -> Timeline:
        """Where the time of a request went. Raises `ConfigError` if it is unknown, `EngineError` if the engine is gone."""
        found = await self._ask(Ask(name))
        assert isinstance(found, TimelineFound)
        return found.timeline

    async def _ask(self, question: Use | Ask) -> Reply:
        if self.dead is not None:
            raise EngineError(self.dead)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._send(question)
        try:
            async with asyncio.timeout(max(ANSWER_S, 10 * self.state.slowest)):
                return await answer
        except TimeoutError:
            raise EngineError("the engine does not answer") from None

    async def close(self) -> None:
        """Stop the process, with force if it does not go by itself. Readers of live requests are told."""
        if self.dead is None:
            self._bury("the server is leaving")
        if self._listener is not None:
            self._listener.cancel()
        if self._process is not None and not self._process.ended.done():
            self._wire.send(Stop())
            await self._process.stop()
        self._wire.close()

    def _send(self, message: ToEngine) -> None:
        if self.dead is None:
            self._wire.send(message)

    async def _receive(self, process: EngineProcess) -> FromEngine | int:
        """The next message, or the exit status of an ended process."""
        heard = asyncio.ensure_future(self._wire.receive())
        await asyncio.wait((heard, process.ended), return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():  # its last words may still be on their way
            await asyncio.wait((heard,), timeout=LAST_WORDS_S)
        if heard.done():
            return heard.result()
        heard.cancel()
        return process.ended.result()

    async def _listen(self, process: EngineProcess) -> None:
        """Hand out what the engine says, until it is gone."""
        while True:
            message = await self._receive(process)
            match message:
                case EngineOutput():
                    self._take(message)
                case Using() | TimelineFound():
                    self._answer(message)
                case Refused():
                    self._answer(ConfigError(message.reason))
                case EngineFailed():
                    self._bury(message.reason)
                case int():
                    self._bury(f"the engine process {describe_exit(message)}")
                    return

    def _take(self, iteration: EngineOutput) -> None:
        self.state.last_sign = time.monotonic()
        if iteration.batches:
            self.state.slowest = max(iteration.seconds, 0.99 * self.state.slowest)
        for listener in tuple(self.listeners):
            listener(iteration)
        self.streams.take(iteration)

    def _answer(self, answer: Reply | Exception) -> None:
        """Settle the oldest open question."""
        future = self._asked.popleft()
        if future.done():  # its asker did not wait
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _bury(self, reason: str) -> None:
        """The engine is gone: all open questions and streams end."""
        self.dead = reason
        while self._asked:
            self._answer(EngineError(reason))
        self.streams.fail_all(reason)
