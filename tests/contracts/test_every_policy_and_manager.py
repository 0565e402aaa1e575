"""What every policy owes its users, over every K/V manager and depth, when memory is tight and clients change their minds."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES
from orcinus.core.policies.spelled import make_policy
from orcinus.core.request import Finish, SamplingParams
from orcinus.core.view import Limits
from tests.worlds import Job, build_world, check_all, random_jobs, run

SPELLED = [*POLICIES, "request-level:release=each"]
PRODUCT = list(itertools.product(SPELLED, KV_MANAGERS, (1, 2, 4)))
NAMES = [f"{policy}-{kv}-depth{depth}" for policy, kv, depth in PRODUCT]


@pytest.mark.parametrize(("policy", "kv", "depth"), PRODUCT, ids=NAMES)
def test_everyone_is_served_as_if_alone(policy: str, kv: str, depth: int) -> None:
    for seed in range(12):
        jobs = random_jobs(random.Random(seed), 25)
        world = build_world(make_policy(policy), kv, depth=depth)
        requests = run(world, jobs)
        check_all(world, jobs, requests)
        assert {ending.reason for ending in world.record.endings.values()} <= {Finish.STOP, Finish.LENGTH}


@pytest.mark.parametrize(("policy", "kv", "depth"), PRODUCT, ids=NAMES)
def test_cancelling_at_any_moment_disturbs_nobody_else(policy: str, kv: str, depth: int) -> None:
    for seed in range(12):
        jobs = random_jobs(random.Random(seed), 25, cancels=True)
        world = build_world(make_policy(policy), kv, depth=depth)
        check_all(world, jobs, run(world, jobs))


@pytest.mark.parametrize(("policy", "kv", "depth"), PRODUCT, ids=NAMES)
def test_the_same_workload_gives_the_same_batches(policy: str, kv: str, depth: int) -> None:
    jobs = random_jobs(random.Random(5), 30, cancels=True)
    worlds = [build_world(make_policy(policy), kv, depth=depth) for _ in range(2)]
    for world in worlds:
        run(world, jobs)
    assert worlds[0].record.batches == worlds[1].record.batches


@settings(max_examples=60)
@given(
    st.sampled_from(PRODUCT),
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.integers(3, 40),
    st.integers(10, 24),
    st.sampled_from([1, 3, 4, 16]),
)
def test_any_limits_and_any_memory_that_holds_one_request_are_enough(
    product: tuple[str, str, int], seed: int, batch_size: int, batch_tokens: int, spare: int, block_size: int
) -> None:
    """Prompts longer than an iteration are cut even for policies that do not cut; nothing spins, stalls or leaks."""
    policy, kv, depth = product
    limits = Limits(batch_size, batch_tokens, max_model_len=40)
    num_blocks = -(-40 // block_size) + spare // block_size
    jobs = random_jobs(random.Random(seed), 15, cancels=True)
    world = build_world(make_policy(policy), kv, depth=depth, num_blocks=num_blocks, block_size=block_size, limits=limits)
    check_all(world, jobs, run(world, jobs))


@settings(max_examples=40)
@given(
    st.sampled_from(PRODUCT),
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 60), st.integers(1, 60), st.none() | st.integers(0, 40)), max_size=12
    ),
)
def test_adversarial_arrivals_including_requests_that_never_fit(
    product: tuple[str, str, int], arrivals: list[tuple[int, int, int, int | None]]
) -> None:
    policy, kv, depth = product
    jobs = [
        Job(when, tuple(range(length)), SamplingParams(max_tokens=tokens, seed=0), cancelled)
        for when, length, tokens, cancelled in sorted(arrivals, key=lambda arrival: arrival[0])
    ]
    world = build_world(make_policy(policy), kv, depth=depth)
    requests = run(world, jobs)
    check_all(world, jobs, requests)
    for job, request in zip(jobs, requests, strict=True):
        never = len(job.prompt) + (job.params.max_tokens or 0) > 40
        assert (world.record.endings[request.id].reason is Finish.REJECTED) == never


@pytest.mark.parametrize("kv", KV_MANAGERS)
def test_switching_the_policy_between_iterations_changes_no_token(kv: str) -> None:
    jobs = random_jobs(random.Random(3), 40)
    world = build_world(make_policy("orca"), kv, depth=2)
    policies = itertools.cycle(map(make_policy, SPELLED))
    step = world.engine.step
    world.engine.step = lambda: (world.engine.use(next(policies)), step())[1]  # type: ignore[method-assign]
    check_all(world, jobs, run(world, jobs))


def test_tight_memory_makes_the_paged_manager_preempt() -> None:
    """Or the tests above would prove less than they say."""
    preemptions = 0
    for seed in range(10):
        jobs = random_jobs(random.Random(seed), 40)
        world = build_world(make_policy("orca"), "paged", num_blocks=11)
        check_all(world, jobs, run(world, jobs))
        preemptions += world.engine.scheduler.preemptions
    assert preemptions > 10
