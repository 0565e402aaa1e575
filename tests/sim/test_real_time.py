"""Simulations in real time. Time is made up here too: nothing in this file waits."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from orcinus.core.batch import Batch, Chunk, NewRequest
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.cost.work import FixedCost
from orcinus.sim.live import _SlotsOfPolicy
from orcinus.sim.random_answers import AnswerGenerator, Vocabulary
from orcinus.sim.real_time import MOST_LATE_S, RealTimeClock, RealTimeExecutor

PARAMS = SamplingParams(max_tokens=50, seed=0)


@dataclass
class Wall:
    """The time of the machine, and who slept."""

    at: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


def clock(wall: Wall, speed: float = 1.0) -> RealTimeClock:
    return RealTimeClock(speed, wall.now, wall.sleep)


def executor(wall: Wall, seconds: float, stages: int = 1, speed: float = 1.0) -> RealTimeExecutor:
    generator = AnswerGenerator(Vocabulary(tuple(range(2, 20)), 1, 20), lambda *_: 5)
    return RealTimeExecutor(FixedCost(seconds, stages), clock(wall, speed), generator)


def batch(number: int, name: str = "a") -> Batch:
    """A decode of a request that executors meet anew."""
    return Batch(number, (Chunk(name, (5,), 1),), (NewRequest(name, (5, 6), (), PARAMS, RequestContext(), ((0,),)),))


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_waiting_for_a_moment_takes_its_distance_by_the_speed(speed: float) -> None:
    wall = Wall()
    tested = clock(wall, speed)
    tested.jump(tested.now() + 3.0)
    assert sum(wall.slept) == pytest.approx(3.0 / speed)


def test_what_planning_takes_is_no_part_of_an_iteration() -> None:
    wall = Wall()
    tested = executor(wall, 0.1)
    began = wall.at
    for number in range(10):
        tested.submit(batch(number))
        tested.collect()
        wall.at += 0.03  # until the next batch is planned
    assert wall.at - began == pytest.approx(10 * 0.1 + 0.03)


def test_a_machine_that_is_too_slow_loses_time_and_never_hurries_for_long() -> None:
    wall = Wall()
    tested = executor(wall, 0.1)
    tested.submit(batch(0))
    tested.collect()
    wall.at += 60.0  # it was stopped
    began = wall.at
    for number in range(1, 11):
        tested.submit(batch(number))
        tested.collect()
    assert wall.at - began == pytest.approx(10 * 0.1 - MOST_LATE_S)


def test_the_first_request_after_a_pause_waits_for_a_whole_iteration() -> None:
    wall = Wall()
    tested = executor(wall, 0.02, speed=0.5)
    wall.at += 0.03  # less than the simulation may be late
    tested.wake()
    tested.submit(batch(1, "c"))
    assert tested.due_in() == pytest.approx(0.02 / 0.5)


def test_two_stages_carry_two_batches_at_once() -> None:
    wall = Wall()
    tested = executor(wall, 1.0, stages=2)
    assert tested.depth == 2
    tested.submit(batch(0, "a"))
    tested.submit(batch(1, "b"))
    assert tested.due_in() == pytest.approx(2.0)
    began = wall.at
    assert tested.collect().batch_id == 0
    assert tested.due_in() == pytest.approx(1.0)
    assert tested.collect().batch_id == 1
    assert wall.at - began == pytest.approx(3.0)
    assert tested.due_in() == 0


def test_what_is_due_is_collected_at_once() -> None:
    wall = Wall()
    tested = executor(wall, 1.0)
    tested.submit(batch(0))
    wall.at += 5
    assert tested.due_in() == 0
    tested.collect()
    assert wall.slept == []


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_a_pipeline_tells_when_its_stages_ran_if_asked(speed: float) -> None:
    wall = Wall()
    tested = executor(wall, 0.1, stages=2, speed=speed)
    tested.submit(batch(0))
    assert tested.take_stage_runs() == [], "it was not asked"
    tested.collect()
    tested.time_stages(on=True)
    busy, begin = list(tested.busy), tested.clock.now() / speed
    tested.submit(batch(1, "b"))
    tested.submit(batch(2, "c"))
    runs = [tuple(pytest.approx(part) for part in run) for run in tested.take_stage_runs()]
    stage = (tested.busy[0] - busy[0]) / 2 / speed  # seconds of a batch in a stage
    assert runs == [
        (batch, place, begin + (at := batch - 1 + place) * stage, begin + (at + 1) * stage)
        for batch in (1, 2)
        for place in (0, 1)
    ]
    assert tested.take_stage_runs() == []
    tested.time_stages(on=False)
    tested.submit(batch(3, "d"))
    assert tested.take_stage_runs() == []


def test_a_switch_to_a_policy_that_pads_charges_for_every_slot() -> None:
    tested, limits = executor(Wall(), 0.1), Limits(4, 64, 64)
    observer = _SlotsOfPolicy(tested, KV_MANAGERS["paged"](64, 16, limits))
    observer.on_use("fastertransformer", "fcfs", limits, 0.0)
    assert tested.slots == 4
    observer.on_use("orca", "fcfs", limits, 0.0)
    assert tested.slots == 0
