"""The simulated executor: stages in a row, bubbles, repeated batches, answers that end of their own accord."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orcinus.core.batch import Batch, BatchResult, Chunk, NewRequest
from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.cost.work import FixedCost, IterationWork, work_of
from orcinus.sim.clock import VirtualClock
from orcinus.sim.executor import END, SimulatedExecutor
from orcinus.sim.jitter import Jitter, lognormal_factors
from orcinus.sim.repeats import MADE_UP, RepeatedBatch, RepeatedResult

PARAMS = SamplingParams(max_tokens=100, seed=0)


NEW = NewRequest("a", (0,) * 10, (), PARAMS, RequestContext(), ((),))


def decode(name: str, start: int = 10) -> Chunk:
    return Chunk(name, (0,), start)


def prefill(name: str, tokens: int, *, samples: bool = True) -> Chunk:
    return Chunk(name, (0,) * tokens, 0, drafts=0 if samples else None, prefill=True)


class ByTokens:
    """Every stage takes a second for each token."""

    def __init__(self, num_stages: int) -> None:
        self.num_stages = num_stages

    def stages(self, work: IterationWork) -> Sequence[float]:
        return [float(work.tokens)] * self.num_stages


def test_work_counts_what_costs() -> None:
    batch = Batch(1, (prefill("a", 7, samples=False), decode("b", 20), decode("c", 30)))
    work = work_of(batch)
    assert work == IterationWork(9, 3, decodes=2, context=21 + 31, prompts=((0, 7),), samples=2, contexts=(21, 31))
    assert work.repeated(3).context == 52 + 6


def test_depth_is_the_number_of_stages_unless_told_otherwise() -> None:
    assert SimulatedExecutor(FixedCost(1, 4), VirtualClock()).depth == 4
    assert SimulatedExecutor(FixedCost(1, 1), VirtualClock(), depth=2).depth == 2


def test_a_batch_passes_all_stages() -> None:
    clock = VirtualClock(5.0)
    executor = SimulatedExecutor(FixedCost(2.0, 3), clock)
    executor.submit(Batch(1, (decode("a"),)))
    assert executor.next_end == 11.0
    result = executor.collect()
    assert clock.now() == 11.0
    assert result == BatchResult(1, ((MADE_UP,),))
    assert executor.next_end is None


def test_a_stage_serves_one_batch_at_a_time_and_waits_for_the_one_before_it() -> None:
    """Three micro-batches of 1, 3 and 1 tokens through two stages: the drawing of SARATHI's figure 5.

    stage 1: |1|222|3|        stage 2:   |1|  |222|3|
    """
    clock = VirtualClock()
    executor = SimulatedExecutor(ByTokens(2), clock, depth=3)
    ends, bubbles = [], []
    for number, tokens in enumerate((1, 3, 1)):
        executor.submit(Batch(number, (prefill("abc"[number], tokens),)))
        bubbles.append(executor.newest_bubbles)
    for _ in range(3):
        executor.collect()
        ends.append(clock.now())
    assert ends == [2.0, 7.0, 8.0]
    assert bubbles == [1.0, 2.0, 0.0]  # the second stage waits for the first batch, and then for the long one
    assert executor.busy == [5.0, 5.0]
    assert executor.bubbles == [0.0, 3.0]


def test_two_in_flight_on_one_stage_queue_behind_each_other() -> None:
    """What Orca's figure 10a needs: each batch waits for the other, so a token takes two iterations."""
    clock = VirtualClock()
    executor = SimulatedExecutor(FixedCost(1.0), clock, depth=2)
    executor.submit(Batch(1, (decode("a"),)))
    executor.submit(Batch(2, (decode("b"),)))
    executor.collect()
    executor.submit(Batch(3, (decode("a", 11),)))
    executor.collect()
    assert clock.now() == 2.0
    executor.collect()
    assert clock.now() == 3.0
    assert executor.bubbles == [0.0]


def test_waiting_for_work_is_no_bubble() -> None:
    clock = VirtualClock()
    executor = SimulatedExecutor(FixedCost(1.0, 2), clock)
    executor.submit(Batch(1, (decode("a"),)))
    executor.collect()
    clock.jump(100.0)
    executor.submit(Batch(2, (decode("b"),)))
    assert executor.newest_bubbles == 1.0  # the second stage, while the first one works


class ByPause:
    """An iteration takes a second; the first one after a pause takes ten."""

    num_stages = 1

    def stages(self, work: IterationWork) -> Sequence[float]:
        return [10.0 if work.paused else 1.0]


def test_the_first_iteration_after_a_pause_is_told_apart() -> None:
    clock = VirtualClock()
    executor = SimulatedExecutor(ByPause(), clock)
    ends = []
    for number, pause in enumerate((0.0, 0.0, 5.0)):
        clock.jump(clock.now() + pause)
        executor.submit(RepeatedBatch(number, (decode("a"),), repeats=2))
        executor.collect()
        ends.append(clock.now())
    assert ends == [2.0, 4.0, 4.0 + 5.0 + 11.0], "the second batch follows at once"


def test_a_clock_that_lags_is_no_pause() -> None:
    """A live simulation is late on a busy machine, while its requests run."""
    clock = VirtualClock()
    executor = SimulatedExecutor(ByPause(), clock)
    executor.submit(Batch(1, (decode("a"),), (NEW,)))
    executor.collect()
    clock.jump(3.0)
    executor.submit(Batch(2, (decode("a", 11),)))
    executor.collect()
    assert clock.now() == 4.0


def test_a_prompt_in_the_middle_gives_no_token() -> None:
    executor = SimulatedExecutor(FixedCost(1.0), VirtualClock())
    executor.submit(Batch(1, (prefill("a", 5, samples=False), decode("b"))))
    assert executor.collect().tokens == ((), (MADE_UP,))


def test_a_repeated_batch_ends_many_times() -> None:
    clock = VirtualClock()
    executor = SimulatedExecutor(FixedCost(0.5), clock)
    executor.submit(RepeatedBatch(1, (decode("a"), decode("b")), repeats=4))
    assert executor.collect() == RepeatedResult(1, ((MADE_UP,), (MADE_UP,)), earlier=(0.5, 1.0, 1.5))
    assert clock.now() == 2.0
    assert executor.busy == [2.0]


def test_prompts_of_a_repeated_batch_are_decodes_after_its_first_iteration() -> None:
    executor, seen = SimulatedExecutor(cost := ByTokens(1), VirtualClock()), list[IterationWork]()
    stages = cost.stages
    cost.stages = lambda work: (seen.append(work), stages(work))[1]  # type: ignore[method-assign]
    executor.submit(RepeatedBatch(1, (decode("b", 20), prefill("a", 7)), (NEW,), repeats=3))
    assert not executor.begun(8.0)
    assert executor.begun(8.5)
    assert executor.collect() == RepeatedResult(1, ((MADE_UP,), (MADE_UP,)), earlier=(8.0, 10.0))
    assert [work.context for work in seen] == [21, 22 + 8, 23 + 9]
    assert [work.prompts for work in seen] == [((0, 7),), (), ()]
    assert seen[1].attended(window=20) == 20 + 8


@pytest.mark.parametrize(("at", "times"), [(0.2, 1), (0.5, 1), (0.7, 2), (1.9, 4), (2.0, 4)])
def test_an_arrival_ends_it_with_the_iteration_that_runs(at: float, times: int) -> None:
    executor = SimulatedExecutor(FixedCost(0.5), VirtualClock())
    executor.submit(RepeatedBatch(1, (decode("a"),), repeats=4))
    executor.interrupt(at)
    assert executor.next_end == times * 0.5
    assert executor.busy == [times * 0.5]
    result = executor.collect()
    assert (result.earlier if isinstance(result, RepeatedResult) else ()) == tuple(0.5 * n for n in range(1, times))


def test_an_answer_ends_before_max_tokens_with_a_token_that_says_so() -> None:
    executor = SimulatedExecutor(FixedCost(1.0), VirtualClock())
    executor.answers["a"] = 3
    for start, token in ((10, MADE_UP), (11, END)):  # the second and the third token of the answer
        executor.submit(Batch(start, (decode("a", start), decode("b", start)), (NEW,)))
        assert executor.collect().tokens == ((token,), (MADE_UP,))


def test_a_repeated_batch_ends_with_the_first_answer() -> None:
    executor = SimulatedExecutor(FixedCost(1.0), VirtualClock())
    executor.answers["a"] = 4
    executor.submit(RepeatedBatch(1, (decode("a"), decode("b")), (NEW,), repeats=9))
    assert executor.collect() == RepeatedResult(1, ((END,), (MADE_UP,)), earlier=(1.0, 2.0))


def run_pipeline(spread: float, seed: str = "1", iterations: int = 400) -> tuple[float, list[float], float]:
    """Seconds, bubbles and busy seconds of four batches that go round in four stages of a second each."""
    clock, factors = VirtualClock(), lognormal_factors(spread)
    jitter = Jitter(factors, seed) if factors else None
    executor = SimulatedExecutor(FixedCost(1.0, 4), clock, jitter=jitter)
    for number in range(4):
        executor.submit(Batch(number, (decode(f"r{number}"),), (NEW._replace(request_id=f"r{number}"),)))
    for number in range(4, iterations):
        executor.collect()
        executor.submit(Batch(number, (decode(f"r{number % 4}"),)))
    return clock.now(), executor.bubbles, sum(executor.busy) / 4


def test_jitter_makes_bubbles_and_costs_time_but_no_work() -> None:
    even, none, work = run_pipeline(0.0)
    assert sum(none) == pytest.approx(6.0)  # while the pipeline fills
    late, bubbles, varied = run_pipeline(0.3)
    assert varied == pytest.approx(work, rel=0.03)  # a mean of 1
    assert late > 1.1 * even
    assert sum(bubbles) > 0.1 * 4 * late
    assert run_pipeline(0.3)[0] == late != run_pipeline(0.3, "2")[0]
