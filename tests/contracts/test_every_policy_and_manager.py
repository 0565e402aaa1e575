"""What every policy owes its users, over every K/V manager and depth, when memory is tight and clients change their minds."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import Event
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.kv import KV_MANAGERS, MaxLength, Paged, PrefixCache, Reservation
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.core.request import Finish, Overlap
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import NO_OVERLAP
from orcinus.core.view import Limits
from tests.examples import examples, fewer
from tests.product import product
from tests.worlds import OVERLAP, GuessingDrafter, Job, build_world, check_all, random_jobs, run

SPELLED = [*POLICIES, "request-level:release=each", "sarathi:chunk_size=6", "stall-free:token_budget=3"]
ORDERED = [*ORDERS, "priority:aging=1"]
DEPTHS = (1, 4, -2)  # batches in flight; below 0: that many, each following the last
PRODUCT = list(itertools.product(SPELLED, ORDERED, KV_MANAGERS, DEPTHS))
WORLDS = product(
    SPELLED,
    ORDERED,
    KV_MANAGERS,
    DEPTHS,
    name=lambda *world: "-".join(world[:3]) + f"-{'depth' if world[3] > 0 else 'overlap'}{abs(world[3])}",
)
World4 = tuple[str, str, str, int]


def overlap_at(depth: int) -> Overlap:
    return OVERLAP if depth < 0 else NO_OVERLAP


def seeds(*world: str | int) -> tuple[int, int]:
    """Of two workloads that no other world is given: many different ones say more than a few everywhere."""
    index = PRODUCT.index(world)  # type: ignore[arg-type]
    return 2 * index, 2 * index + 1


@pytest.mark.parametrize(("policy", "order", "kv", "depth"), WORLDS)
def test_everyone_is_served_as_if_alone(policy: str, order: str, kv: str, depth: int) -> None:
    for seed in seeds(policy, order, kv, depth)[: fewer(2)]:
        jobs = random_jobs(random.Random(seed), 25)
        world = build_world(make_policy(policy), kv, depth=abs(depth), overlap=overlap_at(depth), order=order)
        requests = run(world, jobs)
        check_all(world, jobs, requests)
        assert {ending.reason for ending in world.record.endings.values()} <= {Finish.STOP, Finish.LENGTH}


@pytest.mark.parametrize(("policy", "order", "kv", "depth"), WORLDS)
def test_cancelling_disturbs_no_other_request_and_the_same_workload_gives_the_same_batches(
    policy: str, order: str, kv: str, depth: int
) -> None:
    first, second = seeds(policy, order, kv, depth)
    batches = []
    for seed in (first, second, second)[-fewer(3, least=2) :]:
        jobs = random_jobs(random.Random(seed), 25, cancels=True)
        world = build_world(make_policy(policy), kv, depth=abs(depth), overlap=overlap_at(depth), order=order)
        check_all(world, jobs, run(world, jobs))
        batches.append(world.record.batches)
    assert batches[-2] == batches[-1]


@examples(60)
@given(
    st.sampled_from(PRODUCT),
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.integers(3, 40),
    st.integers(10, 24),
    st.sampled_from([1, 3, 4, 16]),
    st.integers(0, 3),
)
def test_any_limits_and_any_memory_that_holds_one_request_are_enough(
    product: World4, seed: int, batch_size: int, batch_tokens: int, spare: int, block_size: int, more: int
) -> None:
    """Prompts longer than an iteration are cut even for policies that do not cut; nothing spins, stalls or leaks."""
    policy, order, kv, depth = product
    limits = Limits(batch_size, batch_tokens, max_model_len=40)
    depth += more if depth > 0 else -more
    num_blocks = -(-40 // block_size) + spare // block_size
    jobs = random_jobs(random.Random(seed), 15, cancels=True)
    world = build_world(
        make_policy(policy),
        kv,
        depth=abs(depth),
        overlap=overlap_at(depth),
        order=order,
        num_blocks=num_blocks,
        block_size=block_size,
        limits=limits,
    )
    check_all(world, jobs, run(world, jobs))


@examples(40)
@given(
    st.sampled_from(PRODUCT),
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 60), st.integers(1, 60), st.none() | st.integers(0, 40)), max_size=12
    ),
)
def test_adversarial_arrivals_including_requests_that_never_fit(
    product: World4, arrivals: list[tuple[int, int, int, int | None]]
) -> None:
    policy, order, kv, depth = product
    jobs = [
        Job(when, tuple(range(length)), SamplingParams(max_tokens=tokens, seed=0), cancelled)
        for when, length, tokens, cancelled in sorted(arrivals, key=lambda arrival: arrival[0])
    ]
    world = build_world(make_policy(policy), kv, depth=abs(depth), overlap=overlap_at(depth), order=order)
    requests = run(world, jobs)
    check_all(world, jobs, requests)
    for job, request in zip(jobs, requests, strict=True):
        never = len(job.prompt) + (job.params.max_tokens or 0) > 40
        assert (world.record.endings[request.id].reason is Finish.REJECTED) == never


@pytest.mark.parametrize("overlap", [NO_OVERLAP, OVERLAP])
@pytest.mark.parametrize("kv", KV_MANAGERS)
def test_switching_policy_order_and_limits_between_iterations_changes_no_token(kv: str, overlap: Overlap) -> None:
    jobs = random_jobs(random.Random(3), 40)
    world = build_world(make_policy("orca"), kv, depth=2, overlap=overlap)
    policies, orders = itertools.cycle(map(make_policy, SPELLED)), itertools.cycle(ORDERED)
    sizes = itertools.cycle([1, 4, 2])
    step = world.engine.step

    def switch_and_step() -> list[Event]:
        limits = replace(world.engine.scheduler.limits, max_batch_size=next(sizes))
        world.engine.use(next(policies), make_order(next(orders)), limits)
        return step()

    world.engine.step = switch_and_step  # type: ignore[method-assign]
    check_all(world, jobs, run(world, jobs))


def test_tight_memory_makes_the_paged_manager_preempt() -> None:
    """Or the tests above would prove less than they say."""
    preemptions = 0
    for seed in range(10):
        jobs = random_jobs(random.Random(seed), 40)
        world = build_world(
            make_policy("orca"), "paged", num_blocks=11, depth=1 + seed % 2, overlap=Overlap(seed % 2 == 1, seed % 2 == 1)
        )
        check_all(world, jobs, run(world, jobs))
        preemptions += world.engine.scheduler.admission.preemptions
    assert preemptions > 10


PIPELINES = [(depth, NO_OVERLAP) for depth in range(1, 9)] + [(depth, Overlap(prefill=True)) for depth in (2, 4)]
DEEP = [*PIPELINES, *((depth, OVERLAP) for depth in (1, 2, 3))]


@pytest.mark.parametrize(
    ("depth", "overlap"), DEEP, ids=[f"{depth}-{'+'.join(filter(o._asdict().get, o._fields))}" for depth, o in DEEP]
)
@pytest.mark.parametrize("policy", SPELLED)
def test_every_depth_and_overlap_serves_every_request_as_if_alone(policy: str, depth: int, overlap: Overlap) -> None:
    """The executor of this world refuses a chunk that follows any batch but the last one."""
    jobs = random_jobs(random.Random(depth), 25, cancels=True)
    kv = list(KV_MANAGERS)[depth % len(KV_MANAGERS)]
    world = build_world(make_policy(policy), kv, depth=depth, overlap=overlap, num_blocks=14)
    check_all(world, jobs, run(world, jobs))


@pytest.mark.parametrize(("depth", "overlap"), [(1, NO_OVERLAP), (3, NO_OVERLAP), (2, OVERLAP)])
@pytest.mark.parametrize("kv", KV_MANAGERS)
@pytest.mark.parametrize("policy", SPELLED)
def test_verified_drafts_change_no_token(policy: str, kv: str, depth: int, overlap: Overlap) -> None:
    """A row may be given several tokens; then a decode is still a decode, and rejected drafts leave nothing."""
    jobs = random_jobs(random.Random(7), 30, cancels=True)
    drafter = GuessingDrafter()
    world = build_world(make_policy(policy), kv, depth=depth, overlap=overlap, num_blocks=20, drafter=drafter)
    check_all(world, jobs, run(world, jobs))
    assert drafter.guesses > 20 or policy == "fastertransformer", "or this test would say nothing"


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("overlap", [NO_OVERLAP, OVERLAP])
@pytest.mark.parametrize("kv", [kv for kv in KV_MANAGERS if kv != "buddy"])  # which has one pool
def test_a_request_has_a_block_table_for_every_group_of_layers(kv: str, overlap: Overlap, groups: int) -> None:
    jobs = random_jobs(random.Random(groups), 40, cancels=True)
    made = {
        "max-length": lambda: MaxLength(24 * groups, 4, 40, groups),
        "reservation": lambda: Reservation(24 * groups, 4, groups),
        "paged": lambda: Paged(14 * groups, 4, groups=groups),
        "prefix-cache": lambda: PrefixCache(14 * groups, 4, groups=groups),
    }
    world = build_world(make_policy("orca"), made[kv], depth=2, overlap=overlap)
    check_all(world, jobs, run(world, jobs))
    assert {len(new.blocks) for batch in world.record.batches for new in batch.new} == {groups}
    later = {len(chunk.new_blocks) for batch in world.record.batches for chunk in batch.chunks if chunk.new_blocks}
    assert later == (set() if world.kv.preallocates else {groups})
