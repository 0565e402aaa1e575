"""What K/V memory is used for, by hand and as an invariant."""

from __future__ import annotations

import pytest

from orcinus.core.kv import KV_MANAGERS
from orcinus.core.view import Limits
from orcinus.cost.work import FixedCost
from orcinus.observe.kv_use import KVUseObserver
from orcinus.sim.clock import VirtualClock
from orcinus.sim.replica import Replica
from orcinus.sim.simulation import Simulation, make_router
from orcinus.workload.arrival import Arrival
from orcinus.workload.source import OpenLoop, source_of
from orcinus.workload.workload import make_workload


def observed(arrivals: object, kv: str, num_blocks: int = 40) -> tuple[KVUseObserver, Replica]:
    clock = VirtualClock()
    replica = Replica(
        0,
        FixedCost(1.0),
        clock,
        policy="orca",
        order="fcfs",
        kv=kv,
        limits=Limits(4, 4096, 160),
        num_blocks=num_blocks,
        block_size=16,
        repeat=False,
    )
    use = KVUseObserver(replica.scheduler)
    replica.engine.observers.append(use)
    Simulation([replica], make_router("round-robin"), clock).run(arrivals)  # type: ignore[arg-type]
    return use, replica


@pytest.mark.parametrize("kv", sorted(KV_MANAGERS))
def test_the_shares_of_all_kinds_add_up_to_everything(kv: str) -> None:
    lengths = "uniform:low=1:high=60,uniform:low=1:high=90"
    use, _ = observed(source_of(make_workload("poisson:rate=0.1", lengths, 40, 3)), kv)
    assert sum(use.shares.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in use.shares.values())
    assert use.shares["used"] > 0.05


def test_a_reservation_holds_what_comes_later_and_paging_does_not() -> None:
    """One request of 32 tokens with an answer of 96: at the first look 32 places are needed, and 96 more are reserved."""
    shares = {}
    for kv in ("reservation", "paged", "max-length"):
        use, _ = observed(OpenLoop(iter([Arrival(0.0, 32, 96)])), kv, num_blocks=16)
        shares[kv] = use.shares
    assert shares["reservation"]["internal"] == pytest.approx(0.0)
    assert shares["reservation"]["reserved"] > 0.1
    assert shares["paged"]["reserved"] < 0.06
    assert shares["max-length"]["internal"] == pytest.approx((160 - 128) / 256)


def test_free_memory_is_external_waste_while_a_request_does_not_fit() -> None:
    crowded, _ = observed(OpenLoop(iter([Arrival(0.0, 32, 60)] * 4)), "reservation", num_blocks=9)
    alone, _ = observed(OpenLoop(iter([Arrival(0.0, 32, 60)])), "reservation", num_blocks=9)
    assert crowded.shares["external"] > 0.1
    assert alone.shares["external"] == 0.0
    assert alone.shares["idle"] > 0.1
