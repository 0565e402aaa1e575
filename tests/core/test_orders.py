"""Queue orders: who is first, how long a request can wait for others, and that none starves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.component_spec import make_order
from orcinus.core.orders import FCFS, ORDERS, Fair, Priority, ShortestFirst
from orcinus.core.policies import StallFree
from orcinus.core.ports import Order
from orcinus.core.request import Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.errors import ConfigError
from tests.examples import examples
from tests.worlds import Job, World, build_world, random_jobs, run


def request(name: str, arrival: float, *, prompt: int = 1, output: int = 1, priority: int = 0, client: str = "") -> Request:
    params = SamplingParams(max_tokens=output, seed=0)
    return Request(name, tuple(range(prompt)), params, arrival, RequestContext(priority, client))


def names(order: Order, count: int = 100) -> str:
    return "".join(one.id for one in order.first(count))


def filled(order: Order, *requests: Request) -> Order:
    for one in requests:
        order.add(one)
    return order


def test_fcfs_is_by_arrival_whatever_the_order_of_joining() -> None:
    assert names(filled(FCFS(), request("b", 2), request("a", 1, priority=9), request("c", 3, priority=-9))) == "abc"


def test_priority_is_urgent_first_but_waiting_counts() -> None:
    queue = filled(Priority(aging=10), request("a", 0), request("b", 1, priority=-1), request("c", 2, priority=1))
    assert names(queue) == "bac"
    queue.add(request("d", 15, priority=-1))  # more urgent than `a` by one level, but 15 seconds later
    assert names(queue) == "badc"


def test_shortest_first_is_by_tokens_still_to_run() -> None:
    queue = filled(ShortestFirst(), request("a", 0, prompt=900, output=90), request("b", 1), request("c", 1, prompt=400))
    assert names(queue) == "bca"
    queue.add(request("d", 12))
    assert names(queue) == "bcad"  # by now it is the turn of the long one


def test_fair_takes_turns_by_what_clients_were_given() -> None:
    crowd = [request(name, at, prompt=4, client="crowd") for at, name in enumerate("abcd")]
    queue = filled(Fair(), *crowd, request("z", 9, prompt=4, client="single"))
    assert names(queue) == "azbcd"
    queue.admit(crowd[0])
    assert names(queue) == "zbcd"
    queue.generated(crowd[0], 100)  # long answers count too
    assert names(filled(queue, request("y", 10, prompt=4, client="single"))) == "zybcd"


def test_fair_forgets_strangers_who_have_been_away_longest() -> None:
    """Ten thousand clients with a request each, beside one that always waits: counters stay bounded, and its own is kept."""
    queue = Fair()
    for number in range(200):
        queue.add(request(f"home {number}", number, prompt=5, client="home"))
    for number in range(10_000):
        queue.add(request(f"stranger {number}", 1000 + number, prompt=3, client=f"stranger {number}"))
        for first in queue.first(1):
            queue.admit(first)
            queue.generated(first, 2)
        if number % 50 == 0:
            queue.add(request(f"again {number}", 1000 + number, prompt=5, client="home"))
    assert len(queue.counters) < 3000
    assert queue.counters["stranger 9000"] > 0
    assert queue.counters["home"] > 0


def test_fair_gives_no_credit_for_having_been_away() -> None:
    queue = Fair()
    for _ in range(50):
        busy = request("a", 0, prompt=10, client="busy")
        queue.add(busy)
        queue.admit(busy)
    filled(queue, request("a", 0, prompt=10, client="busy"), request("b", 1, prompt=10, client="back"))
    assert queue.counters["back"] == queue.counters["busy"] == 500


@pytest.mark.parametrize("name", ORDERS)
def test_a_queue_gives_back_what_was_put_in(name: str) -> None:
    rng = random.Random(name)
    queue, inside = make_order(name), dict[str, Request]()
    for step in range(600):
        if rng.random() < 0.55 or not inside:
            one = request(
                f"r{step}", rng.random(), prompt=rng.randint(1, 9), priority=rng.randint(-2, 2), client=rng.choice("abc")
            )
            inside[one.id] = one
            queue.add(one)
        else:
            one = rng.choice(list(inside.values()))
            rng.choice([queue.remove, queue.admit])(inside.pop(one.id))
        assert len(queue) == len(inside)
        assert {one.id for one in queue.first(1000)} == {one.id for one in queue.all()} == set(inside)
        count = rng.randint(0, 8)
        assert queue.first(count) == queue.first(1000)[:count]


def overtakings(jobs: list[Job], order: str) -> list[tuple[Request, Request]]:
    """Pairs of requests, the second of them arriving later and running earlier."""
    limits = Limits(max_batch_size=2, max_batch_tokens=64, max_model_len=40)
    world = build_world(StallFree(), "paged", limits=limits, order=order, num_blocks=60)
    requests = run(world, jobs)
    began: dict[str, int] = {}
    for batch in world.record.batches:
        for chunk in batch.chunks:
            began.setdefault(chunk.request_id, batch.id)
    return [(a, b) for a in requests for b in requests if a.arrival < b.arrival and began[b.id] < began[a.id]]


HANDICAPS: dict[str, Callable[[Request], float]] = {
    "fcfs": lambda one: 0.0,
    "priority:aging=7": lambda one: one.context.priority * 7.0,
    "shortest-first:aging=2000": lambda one: one.max_known * 2.0,
}


@examples(60)
@given(st.sampled_from(list(HANDICAPS)), st.integers(0, 2**32))
def test_waiting_for_others_is_bounded(order: str, seed: int) -> None:
    """Only requests that arrive within the difference of the handicaps can overtake (under fcfs none can)."""
    for slow, fast in overtakings(random_jobs(random.Random(seed), 25), order):
        assert fast.arrival - slow.arrival <= HANDICAPS[order](slow) - HANDICAPS[order](fast)


def test_the_orders_do_overtake() -> None:
    """Or the bound above would be a bound on nothing."""
    jobs = random_jobs(random.Random(1), 60)
    assert not overtakings(jobs, "fcfs")
    assert len(overtakings(jobs, "priority:aging=7")) > 10
    assert len(overtakings(jobs, "shortest-first:aging=2000")) > 10


@examples(40)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_service_of_backlogged_clients_stays_close(seed: int, batch_size: int) -> None:
    """While both wait, counters differ by at most U, so that service differs by at most 2 U (the paper's theorem 4.4)."""
    rng = random.Random(seed)
    jobs = [
        Job(
            0,
            (1,) * rng.randint(1, 20),
            SamplingParams(max_tokens=rng.randint(1, 15), seed=0),
            context=RequestContext(client=client),
        )
        for client in "ab"
        for _ in range(30)
    ]
    limits = Limits(batch_size, max_batch_tokens=200, max_model_len=40)
    world = build_world(StallFree(200), "paged", limits=limits, order="fair", num_blocks=60)
    order = world.engine.scheduler.order
    assert isinstance(order, Fair)
    bound = 20 * order.prompt_cost + batch_size * 15 * order.output_cost
    step = world.engine.step

    def check():  # type: ignore[no-untyped-def]
        events = step()
        if len({one.context.client for one in order.all()}) == 2:
            assert abs(order.counters["a"] - order.counters["b"]) <= bound
        return events

    world.engine.step = check  # type: ignore[method-assign]
    run(world, jobs)


def test_one_clients_backlog_delays_no_other_client() -> None:
    """A single request behind a crowd of two hundred: under fcfs it waits for them all, under fair it is next."""
    crowd = [
        Job(0, (1,) * 10, SamplingParams(max_tokens=5, seed=0), context=RequestContext(client="crowd")) for _ in range(200)
    ]
    single = Job(3, (1,) * 10, SamplingParams(max_tokens=5, seed=0), context=RequestContext(client="single"))
    waits = {}
    for order in ("fcfs", "fair"):
        world = build_world(StallFree(), "paged", order=order, num_blocks=60)
        run(world, [*crowd, single])
        first = next(batch.id for batch in world.record.batches if any(c.request_id == "r200" for c in batch.chunks))
        waits[order] = first
    assert waits["fair"] < 15 < 200 < waits["fcfs"]


@pytest.mark.parametrize("cost", ["-1", "nan", "inf", "1e308"])
@pytest.mark.parametrize("name", ["prompt_cost", "output_cost"])
def test_costs_that_could_not_be_added_up_are_refused(name: str, cost: str) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1e"):
        make_order(f"fair:{name}={cost}")


def preempting_world(order: str) -> World:
    return build_world(StallFree(), "paged", order=order, num_blocks=11)


def test_a_request_keeps_the_rank_of_its_first_admission() -> None:
    """Its client's counter then: a preemption later would move it, and two requests could preempt each other in turn."""
    moved = 0
    for seed in range(5):
        world, first = preempting_world("fair"), dict[str, float]()
        order = world.engine.scheduler.order
        admit = order.admit

        def admitted(
            request: Request, order: Order = order, admit: Callable[[Request], None] = admit, first: dict[str, float] = first
        ) -> None:
            nonlocal moved
            now = order.rank(request)
            moved += first.setdefault(request.id, now) != now
            admit(request)

        order.admit = admitted  # type: ignore[method-assign]
        for request in run(world, random_jobs(random.Random(seed), 40)):
            assert request.rank == first[request.id]
    assert moved > 3, "or its rank could not have changed"


def test_fair_charges_a_prompt_once_however_often_it_is_read() -> None:
    jobs = [replace(job, context=RequestContext()) for job in random_jobs(random.Random(2), 40)]
    world = preempting_world("fair")
    requests = run(world, jobs)
    order = world.engine.scheduler.order
    assert isinstance(order, Fair)
    assert sum(request.preemptions for request in requests) > 3
    assert order.counters == {"": sum(len(request.prompt) + 2 * len(request.output) for request in requests)}
