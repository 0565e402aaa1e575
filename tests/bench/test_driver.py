"""Driving an engine in real time, here with a clock of our own: when requests arrive, and what is kept of them."""

from __future__ import annotations

import pytest

from orcinus.bench.driver import EngineDriver, IterationObserver
from orcinus.bench.record import RequestOutcome, RequestRecord
from orcinus.bench.requests import BenchRequest, hash_tokens, make_requests
from orcinus.core.batch import BatchResult
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.view import Limits
from orcinus.workload.source import source_of
from orcinus.workload.workload import Workload, make_workload
from tests.worlds import VOCABULARY, MemoryExecutor, solo

TICK = 0.5  # seconds of an iteration
LIMITS = Limits(max_batch_size=4, max_batch_tokens=64, max_model_len=40)


class ManualClock:
    """Stands still until time is let pass."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def pass_time(self, seconds: float) -> None:
        self.time += seconds


class TickingExecutor(MemoryExecutor):
    """Every iteration takes a tick."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(1, 4)
        self._clock = clock

    def collect(self) -> BatchResult:
        self._clock.pass_time(TICK)
        return super().collect()


def engine(policy: str = "orca") -> tuple[Engine, ManualClock]:
    clock, manager = ManualClock(), KV_MANAGERS["paged"](40, 4, LIMITS)
    scheduler = Scheduler(make_policy(policy), manager, LIMITS, make_order("fcfs"))
    return Engine(scheduler, TickingExecutor(clock), clock), clock


def drive(workload: Workload, policy: str = "orca") -> tuple[list[RequestRecord], EngineDriver, IterationObserver]:
    world, clock = engine(policy)
    seen = IterationObserver()
    world.observers.append(seen)
    found = EngineDriver(world, source_of(workload), make_requests(workload, VOCABULARY), pause=clock.pass_time)
    found.run()
    return sorted(found.ended, key=lambda request: request.number), found, seen


def test_a_request_alone() -> None:
    """Prefill gives the first token, then one comes with every iteration."""
    (one,), _, _ = drive(make_workload("all-at-once", "fixed:tokens=5,fixed:tokens=3", 1))
    assert one.times == (TICK, 2 * TICK, 3 * TICK)
    assert (one.sent, one.ended, one.prompt_tokens, one.output_tokens, one.outcome) == (0, 3 * TICK, 5, 3, RequestOutcome.OK)


def test_a_request_arrives_when_it_is_due_even_if_an_iteration_runs_then() -> None:
    """The second comes at 0.2 s, in the middle of the first iteration, and waits for its end."""
    _, second = drive(make_workload("constant:rate=5", "fixed:tokens=5,fixed:tokens=2", 2))[0]
    assert second.due == second.sent == pytest.approx(0.2)
    assert second.times[0] == pytest.approx(2 * TICK)


def test_an_idle_engine_waits_for_the_next_request() -> None:
    _, second = drive(make_workload("constant:rate=0.1", "fixed:tokens=5,fixed:tokens=1", 2))[0]
    assert second.sent == pytest.approx(10.0)
    assert second.times[0] == pytest.approx(10.0 + TICK, abs=0.001)


def test_a_closed_loop_sends_the_next_request_when_the_one_before_has_ended() -> None:
    found, _, _ = drive(make_workload("closed:clients=1", "fixed:tokens=5,fixed:tokens=2", 3))
    assert [request.sent for request in found] == pytest.approx([0.0, 2 * TICK, 4 * TICK])


def test_outputs_are_what_the_model_says_and_as_long_as_was_asked() -> None:
    workload = make_workload("all-at-once", "uniform:low=1:high=20,uniform:low=1:high=10", 12, seed=3)
    found, _, _ = drive(workload)
    for request, asked in zip(found, make_requests(workload, VOCABULARY), strict=True):
        expected = solo(asked.prompt, SamplingParams(max_tokens=asked.output_tokens))
        assert request.output == hash_tokens(expected)
        assert request.output_tokens == asked.output_tokens == len(request.times)


def test_static_batching_hands_its_answers_out_with_the_batch() -> None:
    short, long = drive(make_workload("all-at-once", "fixed:tokens=2,uniform:low=1:high=9", 2), "request-level")[0]
    assert short.ended == long.ended
    assert set(short.times) == {short.ended}


def test_what_can_never_be_served_is_a_record_too() -> None:
    world, clock = engine()
    workload = make_workload("all-at-once", "fixed:tokens=30,fixed:tokens=30", 1)
    found = EngineDriver(world, source_of(workload), [BenchRequest((1,) * 30, 30)], pause=clock.pass_time)
    found.run()
    assert found.ended[0].outcome is RequestOutcome.REJECTED
    assert "40" in found.ended[0].error


def test_iterations_add_up_to_the_work() -> None:
    workload = make_workload("all-at-once", "uniform:low=1:high=20,uniform:low=1:high=10", 12, seed=3)
    found, run, seen = drive(workload)
    iterations = seen.since(run.start)
    assert sum(each.prefill_tokens for each in iterations) == sum(request.prompt_tokens for request in found)
    assert sum(each.decode_tokens for each in iterations) == sum(len(request.times) - 1 for request in found)
    assert [each.returned for each in iterations] == pytest.approx([TICK * (k + 1) for k in range(len(iterations))])
    assert iterations[0].waiting == 8
