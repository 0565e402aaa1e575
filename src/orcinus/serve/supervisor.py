"""Starts dead engines again, and kills silent ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from orcinus.errors import ConfigError, EngineError
from orcinus.serve.engine_client import EngineClient
from orcinus.serve.recovery import Recovery
from orcinus.serve.restarts import Restarts
from orcinus.serve.streams import Streams

LOOK_S = 0.5  # between two looks at silent engines


class Death(NamedTuple):
    """The death of an engine, and what follows from it."""

    replica: int
    reason: str
    requests: tuple[str, ...]  # that go on, here or at other engines
    delay: float | None  # seconds until it is started again; None: it is not


class Return(NamedTuple):
    """An engine serves again."""

    replica: int
    seconds: float  # since its death


class Supervisor:
    """Brings each engine that dies back, with the requests that wait for it.

    An engine whose deaths go on although nothing is left to blame is given up: `on_loss` hears of it.
    """

    def __init__(
        self,
        streams: Streams,
        start: Callable[[EngineClient, int], Awaitable[None]],
        on_return: Callable[[Return], None],
        on_loss: Callable[[EngineClient, str], None],
    ) -> None:
        self._streams, self._start, self._on_return, self._on_loss = streams, start, on_return, on_loss
        self._restarts: dict[int, Restarts] = {}
        self._recoveries: dict[int, Recovery | None] = {}  # of engines on their way back; None before they stand
        self._tasks: set[asyncio.Task[None]] = set()

    def returning(self, engine: EngineClient) -> bool:
        """Whether an engine is on its way back: what it serves waits."""
        return engine.index in self._recoveries

    def on_death(self, engine: EngineClient, *, explained: bool) -> float | None:
        """Begin to replace a dead engine; returns the delay in seconds.

        `explained` says that the request under which it died was found, and will not run again. None: it is given up.
        """
        if self.returning(engine) and self._recoveries[engine.index] is None:
            return 0.0  # it died again while it was started, as the start will notice
        restarts = self._restarts.setdefault(engine.index, Restarts())
        lived = time.monotonic() - engine.state.since if engine.ready else 0.0
        if explained:
            restarts.forgive()
        delay = restarts.delay(worked=engine.state.worked, lived_s=lived)
        self._recoveries.pop(engine.index, None)
        if delay is not None:
            self._recoveries[engine.index] = None
            task = asyncio.create_task(self._replace(engine, delay))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return delay

    def on_output(self, engine: EngineClient) -> None:
        """Let more of its requests in, if an engine on its way back has made progress."""
        recovery = self._recoveries.get(engine.index)
        if recovery is not None and recovery.step():
            del self._recoveries[engine.index]

    async def _replace(self, engine: EngineClient, delay: float | None) -> None:
        died, restarts = time.monotonic(), self._restarts[engine.index]
        while delay is not None:
            await asyncio.sleep(delay)
            try:
                await self._start(engine, restarts.total)
            except (ConfigError, EngineError, OSError) as error:
                reason = str(error)
                delay = restarts.delay(worked=False, lived_s=0.0)
                continue
            self._on_return(Return(engine.index, time.monotonic() - died))
            self._recoveries[engine.index] = Recovery(engine, self._streams)
            self.on_output(engine)
            return
        del self._recoveries[engine.index]
        self._on_loss(engine, reason)

    async def watch(self, engines: Iterable[EngineClient], limit_s: float) -> None:
        """Kill engines that are silent for longer than `limit_s`, and look for them until cancelled."""
        engines, last = list(engines), time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            late, last = time.monotonic() - last > 2 * LOOK_S, time.monotonic()
            for engine in engines:
                if late:  # this process stood still, and perhaps the engine with it: that was no silence
                    engine.state.last_sign = last
                silent = engine.silent_s() if engine.serves else None
                if silent is not None and silent > limit_s:
                    engine.kill(f"the engine was silent for {silent:.0f} s and was killed (--watchdog says when)")

    async def close(self) -> None:
        """Start nothing any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
