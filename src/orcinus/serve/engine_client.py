"""One engine process: start it, query it, listen, stop it."""

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
from orcinus.serve.messages import (
    Ask,
    EngineFailed,
    EngineOutput,
    FromEngine,
    Loading,
    Ready,
    Refused,
    Stop,
    TimelineFound,
    ToEngine,
    Use,
    Using,
)
from orcinus.serve.replica_load import ReplicaLoad
from orcinus.serve.replica_spec import ReplicaSpec
from orcinus.serve.wire import ServerWire

LAST_WORDS_S = 0.2  # for the last messages of a process that has ended
ANSWER_S = 10.0  # for the engine to answer a question
HEARTBEAT_S = 5.0  # the engine is unhealthy after so long without a sign of life, or after ten times its slowest iteration

Reply = Using | TimelineFound


class EngineSilent(EngineError):
    """An engine that lives does not answer: its iteration takes long, or it hangs."""


@dataclass(slots=True)
class EngineState:
    """The engine's loading progress and last signs of life."""

    loading: Loading = field(default_factory=lambda: Loading("starting", 0, 0))
    since: float = 0.0  # when it was ready, on this process's monotonic clock
    last_sign: float = 0.0  # on the same clock
    worked: bool = False  # whether it has generated a token
    slowest: float = 0.0  # seconds of the slowest iteration, slowly forgotten


class EngineClient:
    """Owns an engine process, and after its death another one.

    All methods belong to one event loop. `on_output` is called with every iteration, and `on_death`, once for each process,
    with the reason why it is gone.
    """

    def __init__(
        self,
        index: int,
        on_output: Callable[[EngineClient, EngineOutput], None],
        on_death: Callable[[EngineClient, str], None],
    ) -> None:
        self.index = index  # index among the replicas of a server
        self.state, self.load = EngineState(), ReplicaLoad()
        self.ready: Ready | None = None  # once it stands
        self.dead: str | None = None  # why the engine is gone
        self._on_output, self._on_death = on_output, on_death
        self._wire = ServerWire()
        self._process: EngineProcess | None = None
        self._asked: deque[asyncio.Future[Reply]] = deque()  # open questions, in order
        self._listener: asyncio.Task[None] | None = None

    async def start(self, spec: ReplicaSpec) -> Ready:
        """Start a process and wait until the model is loaded.

        The one before, if any, is gone by then. Raises `ConfigError` with the engine's own reason.
        """
        if self._process is not None:
            await self._dispose(self._process)
            self._wire, self.state, self.ready, self.dead = ServerWire(), EngineState(), None, None
        self._process = EngineProcess(spec, self._wire.bind())
        while True:
            try:
                message = await self._receive(self._process)
            except EngineError as error:
                self._process.kill()
                await self._process.ended
                raise ConfigError(str(error)) from None
            match message:
                case Loading():
                    self.state.loading = message
                case EngineFailed():
                    await self._process.ended
                    raise ConfigError(message.reason)
                case Ready():
                    self.ready, self.state.since = message, time.monotonic()
                    self.state.last_sign = self.state.since
                    self._listener = asyncio.create_task(self._listen(self._process))
                    return message
                case int():
                    raise ConfigError(f"the engine process {describe_exit(message)} before it was ready")

    def send(self, message: ToEngine) -> None:
        """Queue a message; an engine that does not serve gets none."""
        if self.serves:
            self._wire.send(message)

    def computing(self) -> frozenset[str] | None:
        """The ids of the requests that it computes, or computed when it died; None if that is unknown."""
        return self._wire.computing()

    def kill(self, reason: str) -> None:
        """Kill a process that does not respond, and say why it is gone."""
        assert self._process is not None, "only an engine that served can be silent"
        self._process.kill()
        self._bury(reason)

    def silent_s(self) -> float | None:
        """Seconds since the engine's last sign of life, if too long."""
        silent = time.monotonic() - self.state.last_sign
        return silent if silent > max(HEARTBEAT_S, 10 * self.state.slowest) else None

    @property
    def serves(self) -> bool:
        """Whether the engine is ready and alive."""
        return self.ready is not None and self.dead is None

    async def use(self, change: Use) -> Using:
        """Switch policy, order or limits.

        Raises `ConfigError` if the engine refuses, `EngineError` if it is gone, `EngineSilent` if it does not answer in time.
        """
        found = await self._ask(change)
        assert isinstance(found, Using)
        return found

    async def timeline(self, name: str) -> Timeline:
        """A request's timeline.

        Raises `ConfigError` if the request is unknown, `EngineError` if the engine is gone.
        """
        found = await self._ask(Ask(name))
        assert isinstance(found, TimelineFound)
        return found.timeline

    async def _ask(self, question: Use | Ask) -> Reply:
        if not self.serves:
            raise EngineError(self.dead or "the engine is being started")
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self.send(question)
        try:
            for _ in range(2):  # a process that stood still finds one of two times over, and then has the other
                await asyncio.wait((answer,), timeout=max(ANSWER_S, 10 * self.state.slowest) / 2)
            if not answer.done():
                raise EngineSilent("the engine lives but does not answer: its iteration takes long, or it hangs")
            return answer.result()
        finally:
            answer.cancel()

    async def close(self) -> None:
        """Stop the process; kill it if it does not end itself."""
        if self.dead is None:
            self._bury("the server is leaving")
        if self._process is not None:
            await self._dispose(self._process)
        else:
            self._wire.close()

    async def _dispose(self, process: EngineProcess) -> None:
        """End a process that is dead, fails or is left, and its wire."""
        if self._listener is not None:
            self._listener.cancel()
        if not process.ended.done():
            self._wire.send(Stop())
            await process.stop()
        self._wire.close()

    async def _receive(self, process: EngineProcess) -> FromEngine | int:
        """The next message, or the exit status of an ended process."""
        heard = asyncio.ensure_future(self._wire.receive())
        await asyncio.wait((heard, process.ended), return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():  # its last messages may still be on their way
            await asyncio.wait((heard,), timeout=LAST_WORDS_S)
        if heard.done():
            return heard.result()
        heard.cancel()
        return process.ended.result()

    async def _listen(self, process: EngineProcess) -> None:
        """Dispatch the engine's messages until it is gone; one that cannot be read is its end."""
        while True:
            try:
                message = await self._receive(process)
            except EngineError as error:
                self.kill(f"{error} and was killed")
                continue
            match message:
                case EngineOutput() if self.dead is None:  # what a killed one still says is computed again
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
        self.state.worked |= bool(iteration.tokens)
        if iteration.batches:
            self.state.slowest = max(iteration.seconds, 0.99 * self.state.slowest)
        self._on_output(self, iteration)

    def _answer(self, answer: Reply | Exception) -> None:
        """Resolve the oldest open question."""
        future = self._asked.popleft()
        if future.done():  # its asker did not wait
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _bury(self, reason: str) -> None:
        """Mark the engine dead, and fail all open questions."""
        if self.dead is not None:  # the engine reported it before its process ended
            return
        self.dead = reason
        while self._asked:
            self._answer(EngineError(reason))
        self._on_death(self, reason)
