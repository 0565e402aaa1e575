"""Replicas behind a router, from the first arrival to the last ending."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES
from orcinus.core.view import Limits
from orcinus.cost.work import FixedCost
from orcinus.errors import ConfigError
from orcinus.observe.latency import LatencyObserver, percentile
from orcinus.sim.clock import VirtualClock
from orcinus.sim.replica import Replica
from orcinus.sim.simulation import SIMULATED_ROUTERS, make_router
from orcinus.workload.arrival import Arrival
from orcinus.workload.workload import make_workload
from tests.examples import examples
from tests.sim.worlds import LinearCost, run

SMALL = "uniform:low=1:high=60,uniform:low=1:high=90"


@examples(40)
@given(
    seed=st.integers(0, 1000),
    policy=st.sampled_from(sorted(POLICIES)),
    kv=st.sampled_from(sorted(KV_MANAGERS)),
    stages=st.integers(1, 3),
    depth=st.one_of(st.none(), st.integers(1, 4)),
    replicas=st.integers(1, 3),
    router=st.sampled_from(sorted(SIMULATED_ROUTERS)),
)
def test_every_request_is_served_and_every_block_comes_back(
    seed: int, policy: str, kv: str, stages: int, depth: int | None, replicas: int, router: str
) -> None:
    workload = make_workload("gamma:rate=5:cv=2", SMALL, 30, seed)
    diary, metrics, made = run(
        workload,
        LinearCost(stages),
        policy=policy,
        kv=kv,
        depth=depth,
        replicas=replicas,
        router=router,
        limits=Limits(4, 4096, 160),
    )
    assert metrics.served == 30
    assert metrics.output_tokens == sum(arrival.output_tokens for arrival in workload)
    assert {name: len(at) for name, at in diary.tokens.items()} == {str(i): a.output_tokens for i, a in enumerate(workload)}
    for replica in made:
        assert replica.kv.num_free == replica.kv.num_blocks
        assert (replica.outstanding, replica.work, replica.queued_tokens) == (0, 0, 0)


def test_metrics_are_those_of_the_real_engine_s_observer() -> None:
    exact, workload = LatencyObserver(), make_workload("poisson:rate=4", SMALL, 60, 1)
    _, metrics, _ = run(workload, policy="stall-free")
    run(workload, policy="stall-free", observers=[exact], repeat=False)
    for mine, theirs in ((metrics.ttft, exact.ttft()), (metrics.tbt, exact.tbt()), (metrics.e2e, exact.e2e())):
        assert mine.count == len(theirs)
        assert mine.mean == pytest.approx(sum(theirs) / len(theirs))
        assert (mine.least, mine.greatest) == (min(theirs), max(theirs))
        assert mine.percentile(50) == pytest.approx(percentile(theirs, 50), rel=0.05)
    assert metrics.span == pytest.approx(exact.span())
    assert metrics.output_tokens / metrics.span == pytest.approx(exact.output_throughput())


def test_one_request_alone_by_hand() -> None:
    """Prompt of 40 at 2 s, answer of 3, one second an iteration: tokens at 3, 4 and 5."""
    diary, metrics, _ = run([Arrival(2.0, 40, 3)], FixedCost(1.0))
    assert diary.tokens == {"0": [3.0, 4.0, 5.0]}
    assert metrics.ttft.mean == 1.0
    assert metrics.tbt.mean == metrics.tpot.mean == 1.0
    assert metrics.e2e.mean == metrics.span == 3.0
    assert metrics.normalized_latency.mean == 1.0
    assert metrics.scheduling_delay.mean == 0.0
    assert metrics.iterations == 3


def test_a_request_that_arrives_during_an_iteration_waits_for_its_end() -> None:
    diary, metrics, _ = run([Arrival(0.0, 10, 5), Arrival(1.5, 10, 1)], FixedCost(1.0))
    assert diary.tokens["1"] == [3.0]
    assert metrics.scheduling_delay.greatest == 0.5


def test_a_free_stage_takes_an_arrival_at_once() -> None:
    """With two stages and one batch in flight there is room for another: the second does not wait for the first."""
    diary, _, _ = run([Arrival(0.0, 10, 1), Arrival(1.2, 10, 1)], FixedCost(1.0, 2))
    assert diary.tokens == {"0": [2.0], "1": [3.2]}


def test_request_level_batches_give_their_answers_together() -> None:
    diary, _, _ = run([Arrival(0.0, 5, 2), Arrival(0.0, 5, 6)], FixedCost(1.0), policy="request-level")
    assert diary.tokens == {"0": [6.0] * 2, "1": [6.0] * 6}


def test_a_request_that_asks_for_more_than_it_uses_reserves_it() -> None:
    """Memory of 64 tokens holds two requests that ask for 16 beyond their prompts of 16, or one that asks for 48."""
    for asked, together in ((16, 2), (48, 1)):
        arrivals = [Arrival(0.0, 16, 8, max_tokens=asked)] * 2
        diary, metrics, _ = run(arrivals, FixedCost(1.0), kv="reservation", num_blocks=4)
        assert metrics.batch_size.greatest == together
        assert [end[1] for end in diary.ends] == ["stop"] * 2
        assert [len(at) for at in diary.tokens.values()] == [8, 8]


def test_a_request_that_never_fits_is_rejected_without_disturbing_others() -> None:
    diary, metrics, _ = run([Arrival(0.0, 5, 2), Arrival(0.0, 500, 100), Arrival(0.0, 5, 2)], FixedCost(1.0))
    assert [end[:2] for end in diary.ends] == [("1", "rejected"), ("0", "length"), ("2", "length")]
    assert metrics.served == 2


def test_a_closed_loop_never_has_more_requests_than_clients() -> None:
    limits = Limits(8, 4096, 160)
    _, metrics, _ = run(make_workload("closed:clients=3", SMALL, 40, 0), limits=limits)
    assert metrics.served == 40
    assert metrics.batch_size.greatest == 3
    assert metrics.fairness > 0.9


@pytest.mark.parametrize("router", ["round-robin", "least-outstanding", "least-work", "oracle-least-work"])
def test_equal_requests_are_spread_evenly(router: str) -> None:
    assert sorted(placed([Arrival(0.0, 10, 9)] * 6, router, replicas=3).values()) == [0, 0, 1, 1, 2, 2]


def test_least_work_counts_tokens_and_least_outstanding_requests() -> None:
    arrivals = [Arrival(0.0, 100, 80), Arrival(0.0, 1, 1), Arrival(0.0, 1, 1)]
    for router, expected in (
        ("least-outstanding", {"0": 0, "1": 1, "2": 0}),
        ("least-work:answer=10", {"0": 0, "1": 1, "2": 1}),
        ("oracle-least-work", {"0": 0, "1": 1, "2": 1}),
    ):
        assert placed(arrivals, router, replicas=2) == expected


def test_only_the_oracle_knows_how_long_answers_become() -> None:
    arrivals = [Arrival(0.0, 10, 80), Arrival(0.0, 12, 1), Arrival(0.0, 10, 1)]
    assert placed(arrivals, "least-work", replicas=2)["2"] == 0
    assert placed(arrivals, "oracle-least-work", replicas=2)["2"] == 1


def test_prefix_affine_keeps_a_prefix_at_home_until_home_is_full() -> None:
    alike = [Arrival(0.0, 64, 30, prefix="system", prefix_tokens=48) for _ in range(8)]
    homes = list(placed(alike[:2], "prefix-affine", replicas=3).values())
    assert homes[0] == homes[1]
    assert len(set(placed(alike, "prefix-affine", replicas=3).values())) > 1


def test_affinity_finds_more_in_the_prefix_cache() -> None:
    arrivals = [Arrival(i * 0.4, 64, 8, prefix=f"p{i % 6}", prefix_tokens=48) for i in range(60)]
    hits = {}
    for router in ("round-robin", "prefix-affine"):
        _, _, made = run(arrivals, replicas=4, router=router, kv="prefix-cache")
        hits[router] = sum(replica.kv.stats.hits for replica in made if replica.kv.stats)
    assert hits["prefix-affine"] > hits["round-robin"] > 0


def test_blocks_of_a_trace_are_shared_where_they_are_equal() -> None:
    arrivals = [Arrival(0.0, 64, 4, blocks=(7, 8), block_tokens=16), Arrival(5.0, 64, 4, blocks=(7, 9), block_tokens=16)]
    _, _, (replica,) = run(arrivals, kv="prefix-cache")
    assert replica.kv.stats is not None
    assert replica.kv.stats.hits == 16


def test_only_equal_prefixes_are_shared() -> None:
    """One that comes again is the same however many others came between."""
    names = ["a", "b", *(f"p{number}" for number in range(20)), "a"]
    arrivals = [Arrival(5.0 * at, 64, 4, prefix=name, prefix_tokens=48) for at, name in enumerate(names)]
    _, _, (replica,) = run([*arrivals, Arrival(500.0, 64, 4)], kv="prefix-cache", num_blocks=500)
    assert replica.kv.stats is not None
    assert replica.kv.stats.hits == 48


def test_an_unknown_router_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(ConfigError, match="round-robin, least-outstanding, least-work, prefix-affine, oracle-least-work"):
        make_router("nearest")
    with pytest.raises(ConfigError, match="slack"):
        make_router("prefix-affine:slack=0.5")


def placed(arrivals: list[Arrival], router: str, replicas: int) -> dict[str, int]:
    """Request -> the replica that got it."""
    found: dict[str, int] = {}
    chosen = make_router(router)
    named = {"policy": "orca", "order": "fcfs", "kv": "paged"}
    sizes = {"limits": Limits(4, 4096, 512), "num_blocks": 64, "block_size": 16}
    made = [Replica(i, FixedCost(1.0), VirtualClock(), **named, **sizes) for i in range(replicas)]  # type: ignore[arg-type]
    for number, arrival in enumerate(arrivals):
        replica = made[chosen.choose(arrival.beginning, made)]
        replica.submit(str(number), arrival)
        found[str(number)] = replica.index
    return found
