"""Jitter: measured factors in blocks, the same however iterations are decided."""

from __future__ import annotations

from statistics import mean

import pytest

from orcinus.core.view import Limits
from orcinus.cost.fitted import SPELL
from orcinus.cost.work import FixedCost
from orcinus.sim.clock import VirtualClock
from orcinus.sim.jitter import Jitter
from orcinus.sim.replica import Replica
from orcinus.workload.arrival import Arrival

FACTORS = tuple(1 + 0.001 * number for number in range(100))


def test_blocks_are_consecutive_measured_factors_from_random_places() -> None:
    jitter = Jitter(FACTORS, "a")
    drawn = [[jitter.factor(block * SPELL + place) for place in range(SPELL)] for block in range(200)]
    for block in drawn:
        start = FACTORS.index(block[0])
        assert block == [FACTORS[(start + place) % len(FACTORS)] for place in range(SPELL)]
    assert len({block[0] for block in drawn}) > 60, "of a hundred places, after two hundred draws"
    assert mean(map(mean, drawn)) == pytest.approx(mean(FACTORS), abs=0.01)


def test_a_factor_depends_on_seed_stage_and_iteration_alone() -> None:
    one, other = Jitter(FACTORS, "a"), Jitter(FACTORS, "a")
    ahead = [one.factor(iteration) for iteration in range(300)]
    assert [other.factor(iteration) for iteration in reversed(range(300))] == ahead[::-1]
    assert [one.factor(iteration, stage=1) for iteration in range(300)] != ahead
    assert [Jitter(FACTORS, "b").factor(iteration) for iteration in range(300)] != ahead


@pytest.mark.parametrize("repeat", [True, False])
def test_iterations_take_their_factor_of_the_predicted_time(repeat: bool) -> None:
    """A request that interrupts repeated iterations takes none of their factors."""
    clock, jitter = VirtualClock(), Jitter(FACTORS, "a")
    named = {"policy": "orca", "order": "fcfs", "kv": "paged", "num_blocks": 100, "block_size": 16}
    replica = Replica(0, FixedCost(2.0), clock, **named, limits=Limits(4, 999, 999), repeat=repeat, jitter=jitter)  # type: ignore[arg-type]
    replica.submit("0", Arrival(0.0, 5, 60))
    replica.dispatch()
    seconds = [2.0 * jitter.factor(iteration) for iteration in range(75)]
    late = sum(seconds[:20]) + 0.5
    while replica.next_end is not None and replica.next_end < late:
        replica.settle()
    clock.jump(late)
    replica.submit("1", Arrival(late, 5, 40))
    while replica.outstanding:
        replica.settle()
    assert clock.now() == pytest.approx(sum(seconds[:61]))  # the second begins with the 22nd iteration, and takes forty
