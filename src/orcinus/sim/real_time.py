"""Simulations in real time: batches are collected at their simulated ends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from orcinus.core.batch import Batch, BatchResult, StageRun
from orcinus.core.executor_state import RequestStates
from orcinus.cost.work import CostModel
from orcinus.sim.clock import VirtualClock
from orcinus.sim.executor import SimulatedExecutor
from orcinus.sim.jitter import Jitter
from orcinus.sim.random_answers import AnswerGenerator

MOST_LATE_S = 0.05  # real seconds of lag that the simulation can catch up


class RealTimeClock(VirtualClock):
    """Simulated seconds, `speed` of them per real second; a jump waits.

    While batches follow each other, the clock shows the end of the last batch, not the moment at which the next was planned. So
    an iteration takes as long as the cost model says, without this machine's own delay. A simulation that lags by more than
    `MOST_LATE_S` cannot catch up: the machine is too slow for that speed.
    """

    def __init__(
        self,
        speed: float = 1.0,
        real: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(real() * speed)
        self.speed, self._real, self._sleep = speed, real, sleep

    def now(self) -> float:
        return max(self._at, (self._real() - MOST_LATE_S) * self.speed)

    def jump(self, to: float) -> None:
        """Wait until the simulated time `to`."""
        while (left := self.left(to)) > 0:
            self._sleep(left)
        self._at = max(self._at, to)

    def left(self, to: float) -> float:
        """Real seconds until the simulated time `to`.

        Negative if it has passed.
        """
        return to / self.speed - self._real()

    def wake(self) -> None:
        """Catch up with real time after a pause."""
        self._at = max(self._at, self._real() * self.speed)


class RealTimeExecutor(SimulatedExecutor):
    """A simulated executor in real time, with randomly generated answers."""

    clock: RealTimeClock

    def __init__(
        self,
        cost: CostModel,
        clock: RealTimeClock,
        generator: AnswerGenerator,
        depth: int | None = None,
        slots: int = 0,
        jitter: Jitter | None = None,
    ) -> None:
        super().__init__(cost, clock, depth, slots, jitter)
        self.generator = generator
        self.requests = RequestStates()
        self._written: deque[tuple[Batch, BatchResult]] = deque()
        self._stage_runs: list[StageRun] | None = None  # None: not asked for

    def due_in(self) -> float:
        return 0.0 if self.next_end is None else max(0.0, self.clock.left(self.next_end))

    def submit(self, batch: Batch) -> None:
        before = list(self.busy)
        super().submit(batch)
        if self._stage_runs is not None:
            self._note_stages(batch.id, before)
        self.requests.apply(batch)
        for request_id in batch.removed:
            self.generator.end(request_id)
        for new in batch.new:
            self.generator.begin(new.request_id, new.prompt, new.params)
        self._written.append((batch, self.generator.write(batch, self.requests)))

    def _note_stages(self, batch: int, busy_before: list[float]) -> None:
        """Note when each stage runs a batch: it has just been sent through them all."""
        assert self._stage_runs is not None
        speed = self.clock.speed
        for stage, (end, busy, before) in enumerate(zip(self._free, self.busy, busy_before, strict=True)):
            self._stage_runs.append(StageRun(batch, stage, (end - busy + before) / speed, end / speed))

    def time_stages(self, *, on: bool) -> None:
        self._stage_runs = [] if on else None

    def take_stage_runs(self) -> list[StageRun]:
        """Those of batches in flight too: a simulation knows them ahead."""
        if not self._stage_runs:
            return []
        found, self._stage_runs = self._stage_runs, []
        return found

    def collect(self) -> BatchResult:
        super().collect()
        batch, result = self._written.popleft()
        self.requests.receive(batch, result)
        return result

    def wake(self) -> None:
        self.clock.wake()
