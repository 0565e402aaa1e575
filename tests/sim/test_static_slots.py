"""FasterTransformer's batch has a fixed number of slots: an empty one costs as much time as a full one (Orca, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orcinus.core.view import Limits
from orcinus.cost.work import IterationWork
from orcinus.workload.workload import make_workload
from tests.sim.worlds import LinearCost, run

LIMITS = Limits(4, 4096, 160)


class ByTokens(LinearCost):
    """One second for every token."""

    def stages(self, work: IterationWork) -> Sequence[float]:
        return (float(work.tokens),)


def seconds(policy: str, repeat: bool = True) -> float:
    """Of four requests of 8 tokens whose answers differ."""
    workload = make_workload("all-at-once", "fixed:tokens=8,uniform:low=1:high=60", 4, seed=3)
    _, metrics, _ = run(workload, ByTokens(), policy=policy, kv="max-length", limits=LIMITS, repeat=repeat)
    return metrics.span


@pytest.mark.parametrize("repeat", [True, False])
def test_an_empty_slot_costs_as_much_as_a_full_one_until_the_longest_is_done(repeat: bool) -> None:
    workload = make_workload("all-at-once", "fixed:tokens=8,uniform:low=1:high=60", 4, seed=3)
    longest = max(arrival.output_tokens for arrival in workload)
    assert seconds("fastertransformer", repeat) == 4 * 8 + 4 * (longest - 1)


def test_a_request_level_engine_that_can_drop_requests_pays_for_the_living_alone() -> None:
    workload = make_workload("all-at-once", "fixed:tokens=8,uniform:low=1:high=60", 4, seed=3)
    assert seconds("request-level") == 4 * 8 + sum(arrival.output_tokens - 1 for arrival in workload)


def test_a_batch_that_is_not_full_is_padded() -> None:
    workload = make_workload("all-at-once", "fixed:tokens=8,fixed:tokens=5", 5, seed=0)
    _, metrics, _ = run(workload, ByTokens(), policy="fastertransformer", kv="max-length", limits=LIMITS)
    assert metrics.span == 2 * 4 * (8 + 4)


def test_there_are_no_more_slots_than_memory_holds_at_full_length() -> None:
    workload = make_workload("all-at-once", "fixed:tokens=8,fixed:tokens=5", 1, seed=0)
    _, metrics, _ = run(workload, ByTokens(), policy="fastertransformer", kv="max-length", limits=LIMITS, num_blocks=30)
    assert metrics.span == (30 * 16 // 160) * (8 + 4)
