"""The engines of one server: replicas of one model behind one queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from orcinus.core.component_spec import make
from orcinus.core.request import Finish, FinishCode
from orcinus.errors import ConfigError, EngineError
from orcinus.observe.timeline import Timeline
from orcinus.routing.router import ROUTERS, Load, Router
from orcinus.serve.engine_client import EngineClient
from orcinus.serve.engines import Asked
from orcinus.serve.messages import EngineOutput, Loading, Pause, Ready, Use, Using
from orcinus.serve.replica_spec import ReplicaSpec, replica_specs
from orcinus.serve.streams import Inbox, Stream, Streams
from orcinus.sim.live_config import LiveConfig
from orcinus.text.input_processor import TokenizedRequest

PREFIX_TOKENS = 256  # at the beginning of prompts, by which routers tell whether they begin alike
MOST_MOVES = 2  # of a request: that a third engine dies with it is no accident


class ReplicaSet:
    """Owns the engine processes of a server. All methods belong to one event loop.

    An engine that dies leaves the rotation, and its requests go on at the others.
    """

    def __init__(self, config: Asked, replicas: int = 1, router: str = "least-outstanding") -> None:
        self.config = config
        self.dead: str | None = None  # why the last engine is gone
        self.streams = Streams()
        # Called with every iteration of a replica, before its requests' readers; and when one dies, with the number moved.
        self.listeners: list[Callable[[int, EngineOutput], None]] = []
        self.mourners: list[Callable[[int, str, int], None]] = []
        self._specs = replica_specs(config, replicas)
        self._make_router: Callable[[], Router[Load]] = lambda: make("router", ROUTERS, router)
        self._router = self._make_router()
        self.engines = [EngineClient(spec.index, self._take, self._on_death) for spec in self._specs]
        self._closing = False
        self._switching = asyncio.Lock()

    async def start(self) -> Ready:
        """Start all engines; returns what holds for each of them. Raises `ConfigError` if one cannot start.

        A model's first replica starts alone, so that the others find its files and have its sizes.
        """
        first, *others = zip(self.engines, self._specs, strict=True)
        if isinstance(self.config, LiveConfig):
            await _all(self._start(engine, spec) for engine, spec in (first, *others))
        else:
            ready = await self._start(*first)
            await _all(self._start(engine, spec.like(ready)) for engine, spec in others)
        stand = [engine.ready for engine in self.engines if engine.ready is not None]
        smallest = min(stand, key=lambda ready: ready.num_blocks)
        return msgspec.structs.replace(smallest, max_model_len=min(ready.max_model_len for ready in stand))

    async def _start(self, engine: EngineClient, spec: ReplicaSpec) -> Ready:
        try:
            return await engine.start(spec)
        except ConfigError as error:
            raise ConfigError(f"replica {spec.index}: {error}" if spec.replicas > 1 else str(error)) from None

    @property
    def serving(self) -> list[EngineClient]:
        """The engines that stand and live."""
        return [engine for engine in self.engines if engine.serves]

    @property
    def loading(self) -> Loading:
        """How far the first engine is that does not stand yet."""
        return next((engine for engine in self.engines if engine.ready is None), self.engines[-1]).state.loading

    def silent_s(self) -> float | None:
        """Seconds without a sign of any engine, if that is too long."""
        silences = [engine.silent_s() for engine in self.serving]
        return None if None in silences else min((silence for silence in silences if silence is not None), default=None)

    def submit(self, name: str, prepared: TokenizedRequest, inbox: Inbox, time_left: float | None = None) -> None:
        """Queue a request; its news goes to the inbox.

        `name` is the server's own. Raises `EngineError`.
        """
        if self.dead is not None:
            raise EngineError(self.dead)
        engine = self._choose(prepared)
        engine.send(self.streams.open(name, prepared, inbox, time_left, engine))

    def pause(self, paused: bool) -> None:
        """Let the engines start no more iterations, or go on."""
        for engine in self.serving:
            engine.send(Pause(paused))

    async def use(self, change: Use) -> dict[int, Using]:
        """Switch policy, order or limits of all engines, or of none; returns how each decides now.

        Raises `ConfigError` if one refuses, and `EngineError` if all are gone or one does not answer.
        """
        async with self._switching:
            before = {} if len(self.serving) == 1 else await self._ask_all(Use())
            if before and change == Use():
                return before
            try:
                return await self._ask_all(change)
            except ConfigError:
                await self._restore(before)
                raise

    async def timeline(self, name: str) -> Timeline:
        """Where the time of a request went. Raises `ConfigError` if it is unknown, `EngineError` if its engine is gone."""
        if not self.serving:
            raise EngineError(self.dead or "no engine stands")
        current = self.streams.engine_of(name)
        asked = [engine for engine in self.serving if current in (None, engine)]
        for engine in asked[:-1]:
            with suppress(ConfigError, EngineError):
                return await engine.timeline(name)
        return await asked[-1].timeline(name)

    async def close(self) -> None:
        """Stop all processes, with force if they do not go by themselves. Readers of live requests are told."""
        self._closing = True
        await asyncio.gather(*(engine.close() for engine in self.engines))

    async def _ask_all(self, change: Use) -> dict[int, Using]:
        """The answers of all engines that live; one that dies meanwhile has none."""
        asked = self.serving
        found = await asyncio.gather(*(engine.use(change) for engine in asked), return_exceptions=True)
        answers = {engine.index: answer for engine, answer in zip(asked, found, strict=True) if isinstance(answer, Using)}
        for engine, answer in zip(asked, found, strict=True):
            if isinstance(answer, BaseException) and engine.dead is None:
                raise answer
        if not answers:
            raise EngineError(self.dead or "no engine stands")
        return answers

    async def _restore(self, before: dict[int, Using]) -> None:
        """Switch back those that switched although another one refused."""
        for engine in self.serving:
            if (old := before.get(engine.index)) is not None:
                with suppress(ConfigError, EngineError):
                    await engine.use(Use(old.policy, old.order, old.max_batch_size, old.max_batch_tokens))

    def _choose(self, prepared: TokenizedRequest) -> EngineClient:
        """The engine for a request: the router's choice, unless that one is silent and others are not."""
        serving = self.serving
        if len(serving) == 1:
            return serving[0]
        chosen = serving[self._router.choose(_prefix(prepared), [engine.load for engine in serving])]
        if chosen.silent_s() is None:
            return chosen
        heard = [engine for engine in serving if engine.silent_s() is None]
        return min(heard or serving, key=lambda engine: engine.load.outstanding)

    def _take(self, engine: EngineClient, iteration: EngineOutput) -> None:
        for listener in tuple(self.listeners):
            listener(engine.index, iteration)
        self.streams.take(iteration)

    def _on_death(self, engine: EngineClient, reason: str) -> None:
        """An engine is gone: its requests move to the others, or fail if it was the last one."""
        orphans = self.streams.served_by(engine)
        if self._closing or not self.serving:
            self.dead = reason
            for stream in orphans:
                self._end(stream, reason)
            moved = 0
        else:
            self._router = self._make_router()  # which counts from the first of those that are left
            moved = sum(self._move(stream, reason) for stream in orphans)
        for hear in () if self._closing else tuple(self.mourners):
            hear(engine.index, reason, moved)

    def _end(self, stream: Stream, reason: str) -> None:
        """End a request that no engine can continue."""
        if self._closing:
            self.streams.end(stream, Finish.CANCELLED, code=FinishCode.SHUTDOWN)
        else:
            self.streams.end(stream, Finish.FAILED, reason, FinishCode.ENGINE_DIED)

    def _move(self, stream: Stream, reason: str) -> bool:
        """Let another engine continue a request, with its age, behind the tokens it has; whether that was done."""
        if stream.answer.stopped:  # its engine only had to say so
            self.streams.end(stream, Finish.STOP)
            return False
        if stream.moves == MOST_MOVES:
            self.streams.end(stream, Finish.FAILED, reason, FinishCode.ENGINES_DIED)
            return False
        stream.leave()
        engine = self._choose(stream.prepared)
        stream.moves += 1
        stream.enter(engine)
        engine.send(stream.submission())
        return True


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
