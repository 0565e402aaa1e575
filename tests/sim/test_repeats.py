"""Repeated batches change nothing but the time that a simulation takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import Batch
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.core.ports import Observer
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.sim.repeats import RepeatedBatch
from orcinus.workload.arrival import Arrival
from orcinus.workload.workload import make_workload
from tests.examples import examples
from tests.sim.worlds import run

SMALL = "uniform:low=1:high=60,uniform:low=1:high=90"
ALONE = [Arrival(0.0, 20, 30)]


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


class Launches(Observer):
    """Counts batches."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.batches.append(batch)


def test_a_prompt_and_its_decodes_are_decided_once() -> None:
    launches = Launches()
    diary, metrics, _ = run(ALONE, observers=[launches])
    (batch,) = launches.batches
    assert isinstance(batch, RepeatedBatch)
    assert len(diary.iterations) == metrics.iterations == 30
    assert metrics.ttft.count == 1
    assert metrics.ttft.total == pytest.approx(0.01 + 20e-4 + 1e-5 + 1e-6 * 20 * 20)


def test_a_prompt_is_decided_alone_while_others_may_join_after_it() -> None:
    """Both prompts do not fit into one iteration."""
    launches = Launches()
    limits = Limits(4, max_batch_tokens=30, max_model_len=160)
    run([Arrival(0.0, 20, 5), Arrival(0.0, 20, 5)], limits=limits, observers=[launches])
    assert [type(batch) is RepeatedBatch for batch in launches.batches] == [False, True, False]


@pytest.mark.parametrize("router", ["least-work:answer=0", "least-outstanding"])
def test_routers_see_the_same_loads_with_and_without(router: str) -> None:
    """A first token in the middle of a repeated batch frees its prompt from the queue at once."""
    workload = make_workload("poisson:rate=40", SMALL, 150, 5)
    runs = [run(workload, limits=Limits(8, 4096, 160), replicas=3, router=router, repeat=repeat)[0] for repeat in (True, False)]
    fast, slow = ({name: at for name, _, at in one.ends} for one in runs)
    assert fast == {name: pytest.approx(at) for name, at in slow.items()}
