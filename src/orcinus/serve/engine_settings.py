"""The policy, order, limits and pace of all engines of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from orcinus.errors import ConfigError, EngineError
from orcinus.serve.engine_client import EngineClient
from orcinus.serve.messages import SetPace, Step, TimeStages, Use, Using

NO_ENGINE = "the engine is being started again"


class EngineSettings:
    """Makes a switch at all engines, or at none; an engine that starts later decides as the others do."""

    def __init__(self, serving: Callable[[], Sequence[EngineClient]], policy: str) -> None:
        self._serving, self._first_policy = serving, policy
        self._using, self.pace = Use(), SetPace(False)  # what was switched so far
        self._stages_timed = TimeStages(False)
        self._switching = asyncio.Lock()

    def set_pace(self, *, paused: bool | None = None, min_seconds: float | None = None) -> None:
        """Let the engines start no more iterations, go on, or go on in slow motion; None leaves it as it is."""
        self.pace = SetPace(
            self.pace.paused if paused is None else paused, self.pace.min_seconds if min_seconds is None else min_seconds
        )
        for engine in self._serving():
            engine.send(self.pace)

    def step(self, iterations: int) -> None:
        """Let every engine start so many iterations although it is paused."""
        for engine in self._serving():
            engine.send(Step(iterations))

    @property
    def policy(self) -> str:
        """The policy of the engines, as it was given."""
        return self._using.policy or self._first_policy

    def time_stages(self, on: bool) -> None:
        """Have the engines tell when their pipeline stages run batches, or no more."""
        if on != self._stages_timed.on:
            self._stages_timed = TimeStages(on)
            for engine in self._serving():
                engine.send(self._stages_timed)

    async def use(self, change: Use) -> dict[int, Using]:
        """Switch policy, order or limits; returns how each engine decides now.

        Raises `ConfigError` if one refuses, and `EngineError` if all are gone or one does not answer.
        """
        async with self._switching:
            before = {} if len(self._serving()) == 1 else await self._ask_all(Use())
            if before and change == Use():
                return before
            try:
                found = await self._ask_all(change)
            except ConfigError:
                await self._restore(before)
                raise
            switched = {name: new for name, new in msgspec.structs.asdict(change).items() if new is not None}
            self._using = msgspec.structs.replace(self._using, **switched)
            return found

    async def apply(self, engine: EngineClient) -> None:
        """Make an engine that has just started decide as the others do. Raises `ConfigError` or `EngineError`."""
        async with self._switching:
            await engine.use(self._using)
        engine.send(self.pace)
        engine.send(self._stages_timed)

    async def _ask_all(self, change: Use) -> dict[int, Using]:
        """The answers of all engines that live; one that dies meanwhile has none."""
        asked = self._serving()
        found = await asyncio.gather(*(engine.use(change) for engine in asked), return_exceptions=True)
        answers = {engine.index: answer for engine, answer in zip(asked, found, strict=True) if isinstance(answer, Using)}
        for engine, answer in zip(asked, found, strict=True):
            if isinstance(answer, BaseException) and engine.serves:
                raise answer
        if not answers:
            raise EngineError(NO_ENGINE)
        return answers

    async def _restore(self, before: dict[int, Using]) -> None:
        """Switch back those that switched although another one refused."""
        for engine in self._serving():
            if (old := before.get(engine.index)) is not None:
                with suppress(ConfigError, EngineError):
                    await engine.use(Use(old.policy, old.order, old.max_batch_size, old.max_batch_tokens))
