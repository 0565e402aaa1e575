"""The engines of one server: replicas of one model behind one queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from orcinus.core.component_spec import make, spell
from orcinus.core.request import Finish, FinishCode
from orcinus.errors import ConfigError, EngineError
from orcinus.observe.timeline import Timeline
from orcinus.routing.router import ROUTERS, Load, Router
from orcinus.serve.config import ServerConfig
from orcinus.serve.engine_client import EngineClient
from orcinus.serve.engine_settings import NO_ENGINE, EngineSettings
from orcinus.serve.engines import Asked
from orcinus.serve.messages import EngineOutput, Loading, Promised, Ready, Use, Using
from orcinus.serve.replica_spec import ReplicaSpec, replica_specs
from orcinus.serve.streams import Inbox, Stream, Streams
from orcinus.serve.supervisor import Death, Return, Supervisor
from orcinus.sim.live_config import LiveConfig
from orcinus.text.input_processor import TokenizedRequest

PREFIX_TOKENS = 256  # at the beginning of prompts, by which routers tell whether they begin alike
MOST_DEATHS = 2  # of engines under one request that cannot run alone: a third is no accident
MOST_DEATHS_ALONE = 2  # of engines that computed nothing else


class ReplicaSet:
    """Owns the engine processes of a server. All methods belong to one event loop.

    The requests of an engine that dies go on at the others, or at its successor. `restart` says whether it gets one;
    `watchdog_s` is the silence after which an engine is killed.
    """

    def __init__(
        self,
        config: Asked,
        replicas: int = 1,
        router: str = "least-outstanding",
        *,
        restart: bool = True,
        watchdog_s: float = 60.0,
    ) -> None:
        self.config = config
        self.dead: str | None = None  # why the last engine is gone for good
        self.streams = Streams()
        # Called with every iteration of a replica, before its requests' readers; when one dies; when one serves again.
        self.listeners: list[Callable[[int, EngineOutput], None]] = []
        self.death_listeners: list[Callable[[Death], None]] = []
        self.return_listeners: list[Callable[[Return], None]] = []
        self._specs = replica_specs(config, replicas)
        self._make_router: Callable[[], Router[Load]] = lambda: make("router", ROUTERS, router)
        self._router = self._make_router()
        self.engines = [EngineClient(spec.index, self._take, self._on_death) for spec in self._specs]
        self.restart, self._watchdog_s = restart, watchdog_s
        self.supervisor = Supervisor(self.streams, self._start_again, self._on_return, self._on_loss)
        self._watch: asyncio.Task[None] | None = None
        policy = config.policy if isinstance(config.policy, str) else spell(config.policy)
        self.settings = EngineSettings(lambda: [engine for engine in self.engines if engine.serves], policy)
        self._closing = False

    async def start(self) -> Ready:
        """Start all engines; returns what holds for each of them. Raises `ConfigError` if one cannot start.

        A model's first replica starts alone, so that the others find its files and have its sizes.
        """
        first, *others = zip(self.engines, self._specs, strict=True)
        if isinstance(self.config, LiveConfig):
            await _all(self._start(engine, spec) for engine, spec in (first, *others))
        else:
            ready = await self._start(*first)
            self._specs = [spec.like(ready) for spec in self._specs]
            await _all(self._start(engine, self._specs[engine.index]) for engine, _ in others)
        self._watch = asyncio.create_task(self.supervisor.watch(self.engines, self._watchdog_s))
        stand = [engine.ready for engine in self.engines if engine.ready is not None]
        smallest = min(stand, key=lambda ready: ready.num_blocks)
        return msgspec.structs.replace(smallest, max_model_len=min(ready.max_model_len for ready in stand))

    async def _start(self, engine: EngineClient, spec: ReplicaSpec) -> Ready:
        try:
            return await engine.start(spec)
        except ConfigError as error:
            raise ConfigError(f"replica {spec.index}: {error}" if spec.replicas > 1 else str(error)) from None

    async def _start_again(self, engine: EngineClient, starts: int) -> None:
        """Start a dead engine's successor, which has its sizes, and decides as the others do now."""
        await engine.start(self._specs[engine.index].again(starts))
        await self.settings.apply(engine)

    @property
    def serving(self) -> list[EngineClient]:
        """The engines that stand and live, and take requests."""
        return [engine for engine in self.engines if engine.serves and not self.supervisor.returning(engine)]

    @property
    def loading(self) -> Loading:
        """How far the first engine is that does not stand yet."""
        return next((engine for engine in self.engines if engine.ready is None), self.engines[-1]).state.loading

    def silent_s(self) -> float | None:
        """Seconds without a sign of any engine, if that is too long."""
        silences = [engine.silent_s() for engine in self.engines if engine.serves]
        return None if None in silences else min((silence for silence in silences if silence is not None), default=None)

    def submit(
        self, name: str, prepared: TokenizedRequest, inbox: Inbox, time_left: float | None = None, *, full: bool = False
    ) -> None:
        """Queue a request; its news goes to the inbox.

        `name` is the server's own. If the queue is `full`, one with an SLO is accepted only if it comes as it was told.
        Raises `EngineError`.
        """
        if self.dead is not None:
            raise EngineError(self.dead)
        engine = self._choose(prepared)
        message = self.streams.open(name, prepared, inbox, time_left, engine, books=len(self.serving) <= 1, full=full)
        if not self.supervisor.returning(engine):
            engine.send(message)

    async def use(self, change: Use) -> dict[int, Using]:
        """Switch policy, order or limits of all engines, or of none; returns how each decides now.

        Raises `ConfigError` if one refuses, and `EngineError` if all are gone or one does not answer.
        """
        if self.dead is not None:
            raise EngineError(self.dead)
        return await self.settings.use(change)

    async def timeline(self, name: str) -> Timeline:
        """Where the time of a request went. Raises `ConfigError` if it is unknown, `EngineError` if its engine is gone."""
        current = self.streams.engine_of(name)
        asked = [engine for engine in self.serving if current in (None, engine)]
        if not asked:
            raise EngineError(self.dead or NO_ENGINE)
        for engine in asked[:-1]:
            with suppress(ConfigError, EngineError):
                return await engine.timeline(name)
        return await asked[-1].timeline(name)

    async def close(self) -> None:
        """Stop all processes, with force if they do not go by themselves. Readers of live requests are told."""
        self._closing = True
        if self._watch is not None:
            self._watch.cancel()
        await self.supervisor.close()
        await asyncio.gather(*(engine.close() for engine in self.engines))
        for engine in self.engines:
            self._end_all(engine, Finish.CANCELLED, None, FinishCode.SHUTDOWN)

    def _choose(self, prepared: TokenizedRequest) -> EngineClient:
        """The engine for a request: the router's choice, unless that one is silent and others are not.

        If none serves, it is one that is started again.
        """
        serving = self.serving
        if len(serving) <= 1:
            returning = (engine for engine in self.engines if self.supervisor.returning(engine))
            return serving[0] if serving else min(returning, key=lambda engine: engine.load.outstanding)
        chosen = serving[self._router.choose(_prefix(prepared), [engine.load for engine in serving])]
        if chosen.silent_s() is None:
            return chosen
        heard = [engine for engine in serving if engine.silent_s() is None]
        return min(heard or serving, key=lambda engine: engine.load.outstanding)

    def _take(self, engine: EngineClient, iteration: EngineOutput) -> None:
        for listener in tuple(self.listeners):
            listener(engine.index, iteration)
        for promised in iteration.promised:
            self._decide(engine, promised)
        self.streams.take(iteration)
        self.supervisor.on_output(engine)

    def _decide(self, engine: EngineClient, promised: Promised) -> None:
        """An engine accepted or refused a request with an SLO: all are asked before it is refused.

        The last one holds room for it.
        """
        stream, verdict = self.streams.find(promised.id), promised.verdict
        if stream is None or stream.engine is not engine or (promise := stream.promise) is None or not promise.open:
            return
        if verdict.accepted:
            promise.verdict.set_result(verdict)
            return
        promise.asked.add(engine.index)
        others = [one for one in self.serving if one.index not in promise.asked]
        if promise.best is None or (verdict.retry_after, promise.books) < (promise.best.retry_after, True):
            promise.best = verdict
        if not others:
            self.streams.refuse(stream, verdict if promise.books else promise.best)
            return
        promise.books = len(others) == 1
        self._move(stream, min(others, key=lambda one: one.load.outstanding))

    def _on_death(self, engine: EngineClient, reason: str) -> None:
        """An engine is gone: look for the cause among its requests, replace it, and let them go on."""
        if self._closing:
            self._end_all(engine, Finish.CANCELLED, None, FinishCode.SHUTDOWN)
            return
        orphans, computing = self.streams.served_by(engine), engine.computing()
        computed = [one for one in orphans if computing is None or one.answer.request_id in computing]
        for stream in computed:
            stream.note_death(alone=len(computed if computing is None else computing) == 1)
        culprits = [stream for stream in computed if stream.deaths_alone == MOST_DEATHS_ALONE]
        for stream in culprits if self.restart else ():
            self.streams.end(stream, Finish.FAILED, reason, FinishCode.ENGINES_DIED)
        delay = self.supervisor.on_death(engine, explained=bool(culprits)) if self.restart else None
        self._go_on(engine, reason, delay)

    def _on_loss(self, engine: EngineClient, reason: str) -> None:
        """An engine does not come back."""
        engine.dead = reason
        self._go_on(engine, reason, None)

    def _on_return(self, back: Return) -> None:
        for hear in tuple(self.return_listeners):
            hear(back)

    def _go_on(self, engine: EngineClient, reason: str, delay: float | None) -> None:
        """Move a dead engine's requests to where they can run; if there is no such engine, they fail."""
        moved = []
        if delay is None and not self.serving and not any(map(self.supervisor.returning, self.engines)):
            self.dead = reason
            self._end_all(engine, Finish.FAILED, reason, FinishCode.ENGINE_DIED)
        else:
            self._router = self._make_router()  # which counts from the first of those that are left
            for stream in self.streams.served_by(engine):
                if stream.answer.stopped:  # its engine only had to say so
                    self.streams.end(stream, Finish.STOP)
                elif delay is None and stream.deaths > MOST_DEATHS:
                    self.streams.end(stream, Finish.FAILED, reason, FinishCode.ENGINES_DIED)
                else:
                    self._move(stream, engine if delay is not None and stream.suspect else self._choose(stream.prepared))
                    moved.append(stream.answer.request_id)
        for hear in tuple(self.death_listeners):
            hear(Death(engine.index, reason, tuple(moved), delay))

    def _end_all(self, engine: EngineClient, finish: Finish, reason: str | None, code: FinishCode) -> None:
        """End an engine's requests, which no engine can continue."""
        for stream in self.streams.served_by(engine):
            self.streams.end(stream, finish, reason, code)

    def _move(self, stream: Stream, engine: EngineClient) -> None:
        """Let an engine continue a request, with its arrival, behind the tokens it has."""
        stream.leave()
        stream.enter(engine)
        if not self.supervisor.returning(engine):
            engine.send(stream.submission())


def make_replica_set(config: Asked, asked: ServerConfig) -> ReplicaSet:
    """The engines that a server's options ask for."""
    restart = asked.on_engine_death == "restart"
    return ReplicaSet(config, asked.replicas, asked.router, restart=restart, watchdog_s=asked.watchdog)


async def _all(starts: Iterable[Coroutine[Any, Any, Ready]]) -> None:
    """Wait for all; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _prefix(prepared: TokenizedRequest) -> Hashable:
    """Equal for requests whose K/V blocks can be shared from the beginning of their prompts on."""
    return hash((prepared.context.prefix_key, prepared.ids[:PREFIX_TOKENS]))
