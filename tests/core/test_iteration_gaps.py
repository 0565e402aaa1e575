"""How much longer work takes than its iterations, because of what an engine does between them."""

from __future__ import annotations

import pytest

from orcinus.core.iteration_gaps import IterationGaps


def run(found: IterationGaps, now: float, count: int, between: float, within: float = 0.1) -> float:
    """Iterations one after the other; returns when the last ends."""
    for _ in range(count):
        now += between
        found.launched(now)
        now += within
        found.ended(now)
    return now


def test_work_takes_as_much_longer_as_passes_iteration_gaps() -> None:
    found = IterationGaps()
    assert found.factor == 1
    now = run(found, 0.0, 300, 0.02)
    assert found.factor == pytest.approx(1.2, rel=0.01)
    run(found, now, 300, 0.0)
    assert found.factor == pytest.approx(1.0, abs=0.01), "the last fifty count"


def test_an_idle_engine_does_not_count() -> None:
    found = IterationGaps()
    now = 0.0
    for _ in range(20):
        now = run(found, now, 1, 5.0)
        found.idle()
    assert found.factor == 1


def test_batches_that_overlap_have_nothing_between_them() -> None:
    found, now = IterationGaps(), 0.0
    found.launched(now)
    for _ in range(100):
        found.launched(now + 0.05)
        now += 0.1
        found.ended(now)
    assert found.factor == 1


def test_a_process_that_was_stopped_hardly_counts() -> None:
    found = IterationGaps()
    now = run(found, 0.0, 300, 0.0)
    run(found, now, 1, 3600.0)
    assert found.factor == pytest.approx(1.06, abs=0.01), "three iterations of about fifty"
