"""What the benchmark of ranks makes of their clocks."""

from __future__ import annotations

import random

import parallel
import pytest
from parallel import StageWork

from orcinus.core.batch import Batch, BatchResult
from orcinus.cost.work import IterationWork
from orcinus.runtime.parallel.messages import BatchTime
from orcinus.sim.clock import VirtualClock
from orcinus.sim.executor import SimulatedExecutor
from tests.seam import Part, batch_of


def test_a_stage_begins_when_the_hidden_states_are_there() -> None:
    times = [BatchTime(1, 7, 0.5, 3.0, {"recv": 1.5}), BatchTime(0, 7, 0.25, 2.0, {"send": 0.1})]
    assert parallel.stage_work(times, 2) == [[StageWork(7, 0.25, 2.0)], [StageWork(7, 2.0, 3.0)]]


def test_a_turnaround_ends_on_an_idle_first_stage() -> None:
    first = [StageWork(0, 0, 1), StageWork(1, 1, 2), StageWork(2, 4, 5), StageWork(3, 7, 8)]
    last = [StageWork(0, 1, 3), StageWork(1, 3, 4), StageWork(2, 5, 6), StageWork(3, 8, 9)]
    assert parallel.turnaround([first, last]) == 1  # of batch 2; batch 3 found the stage busy


class DrawnCosts:
    """Stage costs that were drawn, one row a batch."""

    num_stages = 3

    def __init__(self, rows: list[list[float]]) -> None:
        self.rows = iter(rows)

    def stages(self, work: IterationWork) -> list[float]:
        return next(self.rows)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_bubbles_are_those_of_the_simulator(depth: int) -> None:
    """The same run told by clocks gives what the simulated executor counted; it is idle after every fifth batch."""
    rng = random.Random(depth)
    rows = [[float(rng.randint(1, 9)) for _ in range(3)] for _ in range(20)]
    clock, work, launched = VirtualClock(), list[list[StageWork]]([[], [], []]), list[float]()
    executor = SimulatedExecutor(DrawnCosts(rows), clock, depth)

    def submit(number: int) -> None:
        launched.append(clock.now())
        executor.submit(batch(number))
        at = clock.now()
        for stage, seconds in enumerate(rows[number]):
            before = work[stage][-1].ended if work[stage] else 0.0
            began = max(at, before)
            work[stage].append(StageWork(number, began, began + seconds))
            at = began + seconds

    in_flight = 0
    for number in range(20):
        submit(number)
        in_flight += 1
        while in_flight == depth or (number % 5 == 4 and in_flight):
            result = executor.collect()
            assert isinstance(result, BatchResult)
            in_flight -= 1
        if number % 5 == 4:
            clock.jump(clock.now() + 3)
    assert parallel.bubbles(work, launched) == executor.bubbles
    assert sum(executor.bubbles) > 0


def batch(number: int) -> Batch:
    return batch_of([Part(f"r{number}", (1, 2), 0, (0,))], number)[0]
