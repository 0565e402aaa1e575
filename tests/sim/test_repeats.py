"""Repeated batches change nothing but the time that a simulation takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.kv import KV_MANAGERS
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.core.view import Limits
from orcinus.workload.workload import make_workload
from tests.examples import examples
from tests.sim.worlds import run

SMALL = "uniform:low=1:high=60,uniform:low=1:high=90"


@pytest.mark.parametrize("kv", KV_MANAGERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_iteration_is_the_same_with_and_without(policy: str, kv: str) -> None:
    for seed, arrivals in ((1, "poisson:rate=4"), (2, "all-at-once"), (3, "closed:clients=6:think=0.3")):
        workload = make_workload(arrivals, SMALL, 24, seed)
        limits = Limits(4, 4096, 160)
        fast, _, (replica,) = run(workload, policy=policy, kv=kv, limits=limits, num_blocks=24)
        slow, _, _ = run(workload, policy=policy, kv=kv, limits=limits, num_blocks=24, repeat=False)
        assert fast.iterations == slow.iterations
        assert fast.ends == [(name, reason, pytest.approx(at)) for name, reason, at in slow.ends]
        assert {name: pytest.approx(at) for name, at in slow.tokens.items()} == fast.tokens
        assert replica.kv.num_free == 24


@examples(60)
@given(
    seed=st.integers(0, 10_000),
    policy=st.sampled_from(sorted(POLICIES)),
    kv=st.sampled_from(sorted(KV_MANAGERS)),
    order=st.sampled_from(sorted(ORDERS)),
    blocks=st.integers(12, 60),
    size=st.integers(1, 9),
    rate=st.sampled_from((0.5, 3.0, 20.0)),
)
def test_metrics_are_the_same_with_and_without(
    seed: int, policy: str, kv: str, order: str, blocks: int, size: int, rate: float
) -> None:
    workload = make_workload(f"poisson:rate={rate}", SMALL, 25, seed)
    limits = Limits(size, 4096, 160)
    fast, few, _ = run(workload, policy=policy, kv=kv, order=order, limits=limits, num_blocks=blocks)
    slow, many, _ = run(workload, policy=policy, kv=kv, order=order, limits=limits, num_blocks=blocks, repeat=False)
    assert fast.iterations == slow.iterations
    assert [end[:2] for end in fast.ends] == [end[:2] for end in slow.ends]
    for name in ("ttft", "tbt", "tpot", "e2e", "scheduling_delay", "batch_size", "batch_tokens"):
        assert getattr(few, name).count == getattr(many, name).count
        for part in ("total", "least", "greatest"):
            assert getattr(getattr(few, name), part) == pytest.approx(getattr(getattr(many, name), part))
