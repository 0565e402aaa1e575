"""When K/V memory is short, the running request that is last in the queue's order gives way, under every order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.admission import Admission
from orcinus.core.batch import Batch
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.next_batch import NextBatch
from orcinus.core.orders import ORDERS, Fair
from orcinus.core.policies import POLICIES, Orca, StallFree
from orcinus.core.ports import KVManager, Observer, Order
from orcinus.core.request import Request, RequestContext, Status
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import NO_OVERLAP
from orcinus.core.unserved import Reason, Unserved
from orcinus.core.view import Grant, Limits, Selection, View
from tests.examples import examples
from tests.worlds import OVERLAP, Job, World, build_world, check_all, random_jobs, run

TIGHT = 11  # blocks of 4 tokens: one request of 40 tokens and a bit
ORDERED = [*ORDERS, "priority:aging=1", "shortest-first:aging=2000"]


def fresh(name: str, arrival: float, *, prompt: int = 8, output: int = 12, priority: int = 0, client: str = "") -> Request:
    return Request(name, (1,) * prompt, SamplingParams(max_tokens=output, seed=0), arrival, RequestContext(priority, client))


def served(world: World) -> list[str]:
    """Ids in the order of their ends."""
    return sorted(world.record.endings, key=lambda name: world.record.endings[name].at)


def finish(world: World) -> None:
    while not world.engine.idle:
        world.engine.step()


def test_the_urgent_request_keeps_its_memory_although_it_came_last() -> None:
    world = build_world(Orca(), "paged", order="priority", num_blocks=24)
    late = [fresh(f"late {number}", number, prompt=20, output=20, priority=10) for number in range(3)]
    urgent = fresh("urgent", 3, prompt=20, output=20, priority=-10)
    for one in (*late, urgent):
        world.engine.submit(one)
    finish(world)
    assert world.engine.scheduler.admission.preemptions > 0
    assert urgent.preemptions == 0
    assert served(world)[0] == "urgent"


def test_the_longest_request_gives_way_under_shortest_first() -> None:
    world = build_world(Orca(), "paged", order="shortest-first:aging=2000", num_blocks=12)
    long, short = fresh("long", 0, output=32), fresh("short", 1, output=20)
    for one in (long, short):
        world.engine.submit(one)
    finish(world)
    assert (long.preemptions > 0, short.preemptions) == (True, 0)


def test_the_client_that_was_served_most_gives_way_under_fair() -> None:
    world = build_world(Orca(), "paged", order="fair", num_blocks=18)
    first = fresh("first", 0, prompt=12, output=28, client="greedy")
    second = fresh("second", 1, prompt=12, output=28, client="greedy")
    modest = fresh("modest", 2, output=20, client="modest")
    for one in (first, second, modest):
        world.engine.submit(one)
    finish(world)
    assert second.preemptions > 0
    assert (first.preemptions, modest.preemptions) == (0, 0), "their clients had been given nothing when they came in"


class LastFirst:
    """Grants the last running request first, so that those ahead of it find it in the batch already."""

    holds_answers = False
    budget = 64

    def select(self, view: View) -> Selection:
        return Selection(map(Grant, (*reversed(view.running), *view.waiting)), self.budget)


def test_it_leaves_even_the_batch_that_is_being_planned_and_its_tokens_return_to_the_budget() -> None:
    policy = LastFirst()
    world = build_world(policy, "paged", num_blocks=7)
    requests = [fresh(name, at, prompt=7, output=6) for at, name in enumerate("abc")]
    for one in requests:
        world.engine.submit(one)
    world.engine.step()  # three prompts of 7 leave one of seven blocks, and room for one token each
    world.engine.step()
    policy.budget = 2
    world.engine.step()  # each needs a block more: `c` came first and took the last one, and is given up for `b`
    batch = world.record.batches[-1]
    assert [chunk.request_id for chunk in batch.chunks] == ["b", "a"]
    assert world.record.unserved[-1].reasons == {"c": Reason.PREEMPTED}
    policy.budget = 64
    finish(world)
    assert [one.preemptions for one in requests] == [0, 0, 1]


class Watched(Admission):
    """An admission that notes which request took whose memory, and which was admitted past which."""

    def __init__(self, kv: KVManager, order: Order) -> None:
        super().__init__(kv, order)
        self.taken: set[tuple[str, str]] = set()  # (the one in need, the one that gave way)
        self.overtaken: list[tuple[Request, Request]] = []  # (the one admitted, the one ahead of it in the queue)
        self.in_need: Request | None = None

    def make_room(self, request: Request, count: int, batch: NextBatch) -> bool:
        self.in_need = request
        return super().make_room(request, count, batch)

    def preempt(self, victim: Request) -> None:
        assert self.in_need is not None
        self.taken.add((self.in_need.id, victim.id))
        behind = [one for one in self.running if one.precedence > victim.precedence]
        assert all(one.in_flight for one in behind), "others behind it could have given way"
        assert self.in_need.precedence < victim.precedence
        super().preempt(victim)

    def admit(self, request: Request, batch: NextBatch) -> bool:
        ahead = [one for one in self.waiting.all() if self.waiting.rank(one) < self.waiting.rank(request)]
        admitted = super().admit(request, batch)
        self.overtaken += [(request, one) for one in ahead if admitted]
        return admitted


def watched_world(policy: str, order: str, kv: str, *, depth: int = 1, num_blocks: int = TIGHT) -> World:
    limits = Limits(max_batch_size=4, max_batch_tokens=64, max_model_len=40)
    world = build_world(
        make_policy(policy),
        kv,
        depth=abs(depth),
        overlap=OVERLAP if depth < 0 else NO_OVERLAP,
        num_blocks=num_blocks,
        limits=limits,
    )
    world.engine.scheduler.admission = Watched(world.kv, make_order(order))
    return world


def watched(world: World) -> Watched:
    assert isinstance(world.engine.scheduler.admission, Watched)
    return world.engine.scheduler.admission


@examples(150)
@given(
    st.sampled_from(list(POLICIES)),
    st.sampled_from(ORDERED),
    st.sampled_from(["paged", "prefix-cache"]),
    st.sampled_from([1, 2, 4, -2]),
    st.integers(0, 2**32),
)
def test_no_two_requests_preempt_each_other_in_turn(policy: str, order: str, kv: str, depth: int, seed: int) -> None:
    world = watched_world(policy, order, kv, depth=depth)
    jobs = random_jobs(random.Random(seed), 20, cancels=True)
    check_all(world, jobs, run(world, jobs))
    taken = watched(world).taken
    assert not {(victim, taker) for taker, victim in taken} & taken


@examples(60)
@given(st.sampled_from(["fcfs", "priority:aging=7", "shortest-first:aging=2000"]), st.integers(0, 2**32))
def test_a_request_is_admitted_again_before_those_behind_it(order: str, seed: int) -> None:
    """So the bound on waiting of an order by rank holds with preemptions: no later rank ever runs first or takes memory."""
    world = watched_world("stall-free", order, "paged")
    jobs = random_jobs(random.Random(seed), 25)
    run(world, jobs)
    assert watched(world).overtaken == []


def test_the_orders_do_preempt() -> None:
    """Or the properties above would be properties of nothing."""
    for order in ORDERED:
        pairs = set()
        for seed in range(5):
            world = watched_world("stall-free", order, "paged")
            run(world, random_jobs(random.Random(seed), 25))
            pairs |= watched(world).taken
        assert len(pairs) > 5, order


@examples(40)
@given(st.integers(0, 2**32), st.integers(2, 5))
def test_service_of_backlogged_clients_stays_close_under_preemption(seed: int, batch_size: int) -> None:
    """What was taken from a request is not charged again, so the bound of `fair` is the same."""
    rng = random.Random(seed)
    jobs = [
        Job(
            0,
            (1,) * rng.randint(1, 20),
            SamplingParams(max_tokens=rng.randint(1, 15), seed=0),
            context=RequestContext(client=client),
        )
        for client in "ab"
        for _ in range(20)
    ]
    limits = Limits(batch_size, max_batch_tokens=200, max_model_len=40)
    world = build_world(StallFree(200), "paged", limits=limits, order="fair", num_blocks=TIGHT)
    order = world.engine.scheduler.order
    assert isinstance(order, Fair)
    bound = 20 * order.prompt_cost + batch_size * 15 * order.output_cost

    class Check(Observer):
        def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
            if len({one.context.client for one in order.all()}) == 2:
                assert abs(order.counters["a"] - order.counters["b"]) <= bound

    world.engine.observers.append(Check())
    check_all(world, jobs, run(world, jobs))


def together(order: str, ids: Iterator[str], count: int = 12, clients: str = "a") -> list[str]:
    """Requests alike in everything, arriving in the same moment; their ids in the order in which they are served."""
    limits = Limits(max_batch_size=1, max_batch_tokens=64, max_model_len=40)
    world = build_world(StallFree(), "paged", limits=limits, order=order)
    client = itertools.cycle(clients)
    names = list(itertools.islice(ids, count))
    for name in names:
        world.engine.submit(fresh(name, 0.0, client=next(client)))
    finish(world)
    assert sorted(served(world)) == sorted(names)
    return served(world)


@pytest.mark.parametrize("order", ORDERED)
def test_equal_arrivals_keep_the_order_of_submission_whatever_their_ids(order: str) -> None:
    numbered = [str(number) for number in range(12)]
    assert together(order, iter(numbered)) == numbered
    assert together(order, reversed(numbered)) == numbered[::-1]


def test_equal_counters_of_many_clients_keep_the_order_of_submission() -> None:
    numbered = [str(number) for number in range(12)]
    assert together("fair", iter(numbered), clients="lkjihgfedcba") == numbered


@pytest.mark.parametrize("order", ORDERED)
def test_equal_arrivals_keep_the_order_of_submission_through_a_switch_and_a_preemption(order: str) -> None:
    world = build_world(Orca(), "paged", num_blocks=TIGHT, order="priority")
    requests = [fresh(str(number), 0.0, output=20) for number in reversed(range(12))]
    for one in requests:
        world.engine.submit(one)
    for _ in range(3):
        world.engine.step()
    world.engine.use(order=make_order(order))
    finish(world)
    assert sum(one.preemptions for one in requests) > 0
    assert served(world) == [one.id for one in requests]
    assert all(one.status is Status.FINISHED for one in requests)


def test_another_order_ranks_running_requests_anew() -> None:
    """Which of them gives way first is for the new order to say, from the switch on."""
    world = build_world(Orca(), "paged")
    for at, (name, priority) in enumerate((("late", 2), ("urgent", 0))):
        request = Request(name, (1, 2), SamplingParams(max_tokens=9, seed=0), float(at), RequestContext(priority=priority))
        world.engine.submit(request)
    world.engine.step()
    assert [one.id for one in world.engine.scheduler.running] == ["late", "urgent"]
    world.engine.use(order=make_order("priority"))
    assert [one.id for one in world.engine.scheduler.running] == ["urgent", "late"]
