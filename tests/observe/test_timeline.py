"""Where the time of a request went: the parts add up, the reasons are the true ones."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.component_spec import make_policy
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES, Orca, PrefillFirst, RequestLevel, Sarathi, StallFree
from orcinus.core.ports import Policy
from orcinus.core.request import Finish
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Reason
from orcinus.core.view import Limits
from orcinus.observe.timeline import Stage, Timeline, TimelineObserver
from tests.examples import examples, fewer
from tests.worlds import Job, World, build_world, random_jobs, run


def observed(world: World, jobs: list[Job]) -> list[Timeline]:
    """The timelines of all jobs, in their order."""
    observer = TimelineObserver()
    world.engine.observers.append(observer)
    requests = run(world, jobs)
    assert world.engine.dropped_observers == []
    found = [observer.get(request.id) for request in requests]
    return [timeline for timeline in found if timeline is not None]


def job(prompt: int = 4, output: int = 4, when: int = 0) -> Job:
    return Job(when, tuple(range(prompt)), SamplingParams(max_tokens=output, seed=0))


@examples(80)
@given(
    st.sampled_from(list(itertools.product(POLICIES, KV_MANAGERS, (1, 2)))),
    st.integers(0, 2**32),
)
def test_the_parts_add_up_to_the_whole_and_every_iteration_is_accounted_for(world: tuple[str, str, int], seed: int) -> None:
    policy, kv, depth = world
    built = build_world(make_policy(policy), kv, depth=depth, num_blocks=12)
    jobs = random_jobs(random.Random(seed), 20, cancels=True)
    for timeline in observed(built, jobs):
        ending = built.record.endings[timeline.request_id]
        assert timeline.finished is not None
        assert timeline.finish is ending.reason
        assert sum(timeline.seconds.values()) == pytest.approx(timeline.finished - timeline.arrival)
        assert all(seconds >= 0 for seconds in timeline.seconds.values())
        mine = [chunk for batch in built.record.batches for chunk in batch.chunks if chunk.request_id == timeline.request_id]
        assert timeline.prefill_iterations + timeline.decode_iterations == len(mine)
        assert all(count >= 0 for count in timeline.waits.values())


def test_iterations_without_a_part_are_counted_by_reason_for_all_requests_in_the_queue() -> None:
    """The long way round: for every batch, each request that lives and idles has exactly one reason."""
    for seed, policy in itertools.product(range(fewer(10)), POLICIES):
        world = build_world(make_policy(policy), "paged", num_blocks=12)
        jobs = random_jobs(random.Random(seed), 20)
        alive: dict[str, int] = {}
        step, expected = world.engine.step, dict[str, int]()

        def count(step=step, world=world, alive=alive, expected=expected):  # type: ignore[no-untyped-def]
            before = len(world.record.batches)
            living = [name for name in world.record.submitted if name not in world.record.endings]
            events = step()
            for batch in world.record.batches[before:]:
                ran = {chunk.request_id for chunk in batch.chunks}
                for name in set(living) - ran:
                    expected[name] = expected.get(name, 0) + 1
            return events

        world.engine.step = count  # type: ignore[method-assign]
        for timeline in observed(world, jobs):
            if not make_policy(policy).holds_answers:  # else it lives on for its readers after it has ended
                assert timeline.waits.total() == expected.get(timeline.request_id, 0), (policy, seed)


def waits(
    policy: Policy, jobs: list[Job], *, kv: str = "paged", blocks: int = 40, limits: Limits | None = None
) -> list[Timeline]:
    return observed(build_world(policy, kv, num_blocks=blocks, limits=limits or Limits(2, 64, 40)), jobs)


def test_a_full_batch() -> None:
    _, _, third, fourth = waits(Orca(), [job(), job(), job(), job()])
    assert set(third.waits) == set(fourth.waits) == {Reason.BATCH_FULL}
    assert third.waits[Reason.BATCH_FULL] == 4


def test_no_blocks_and_behind_an_older_request() -> None:
    """The second one's prompt does not fit beside the first; the third would fit and must wait for its turn."""
    _, second, third = waits(Orca(), [job(20, 6), job(20, 6), job(1, 1)], blocks=9, limits=Limits(4, 64, 40))
    assert set(second.waits) == {Reason.NO_BLOCKS}
    assert set(third.waits) == {Reason.BEHIND}


def test_a_static_batch() -> None:
    """While both run, the batch is full; when the first has ended, its place stays empty all the same."""
    *_, third = waits(RequestLevel(), [job(output=3), job(output=7), job(when=1)])
    assert third.waits == {Reason.BATCH_FULL: 2, Reason.STATIC_BATCH: 4}


def test_prompts_first() -> None:
    first, _ = waits(PrefillFirst(), [job(4, 9), job(4, 2, when=3)])
    assert first.waits == {Reason.PROMPTS_FIRST: 1}


def test_one_prompt_at_a_time() -> None:
    _, second = waits(Sarathi(64), [job(16), job(16)])
    assert second.waits == {Reason.ONE_PROMPT: 1}


def test_a_spent_budget_and_stages_of_a_chunked_prompt() -> None:
    first, second = waits(StallFree(8), [job(16, 3), job(4, 1)])
    assert (first.prefill_iterations, first.decode_iterations) == (2, 2)
    assert second.waits == {Reason.BUDGET_SPENT: 2}
    assert second.seconds[Stage.QUEUED] > first.seconds[Stage.QUEUED] > 0
    assert first.seconds[Stage.PREFILL] > 0 < first.seconds[Stage.DECODE]
    assert first.finish is Finish.LENGTH


def test_preemption_shows() -> None:
    timelines = waits(Orca(), [job(12, 14), job(12, 14)], blocks=8)
    assert [timeline.preemptions for timeline in timelines] == [0, 1]
    assert timelines[1].waits[Reason.PREEMPTED] == 1
    assert timelines[1].seconds[Stage.PREEMPTED] > 0


def test_only_the_newest_endings_are_kept() -> None:
    world = build_world(Orca(), "paged")
    observer = TimelineObserver(keep=3)
    world.engine.observers.append(observer)
    run(world, [job() for _ in range(10)])
    assert [observer.get(f"r{index}") is not None for index in range(10)] == [False] * 7 + [True] * 3
