"""Percentiles in little memory are those of the numbers themselves, within 0.05 %."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from orcinus.observe.distribution import Distribution

VALUES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200)


def of(values: list[float]) -> Distribution:
    found = Distribution()
    for value in values:
        found.add(value)
    return found


@given(VALUES, st.floats(0.1, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float], p: float) -> None:
    exact = sorted(values)[max(0, math.ceil(p / 100 * len(values) - 1e-9) - 1)]
    assert math.isclose(of(values).percentile(p), exact, rel_tol=0.0006)


@given(VALUES)
def test_mean_count_and_ends_are_exact(values: list[float]) -> None:
    found = of(values)
    assert (found.count, found.least, found.greatest) == (len(values), min(values), max(values))
    assert math.isclose(found.mean, math.fsum(values) / len(values))
    assert found.percentile(100) == max(values)


@given(st.lists(st.tuples(st.floats(1e-3, 10), st.integers(1, 50)), min_size=1, max_size=30))
def test_many_at_once_are_as_many_one_by_one(pairs: list[tuple[float, int]]) -> None:
    together, single = Distribution(), Distribution()
    for value, times in pairs:
        together.add(value, times)
        for _ in range(times):
            single.add(value)
    assert together.count == single.count
    assert [together.percentile(p) for p in (1, 50, 99)] == [single.percentile(p) for p in (1, 50, 99)]


def test_nothing_has_no_percentile() -> None:
    assert all(math.isnan(value) for value in Distribution().summary().values())


def test_zero_is_a_value() -> None:
    found = of([0.0, 0.0, 1.0])
    assert found.percentile(50) == 0.0
    assert found.summary()["max"] == 1.0


def test_memory_does_not_grow_with_the_number_of_values() -> None:
    found = Distribution()
    for number in range(200_000):
        found.add(0.01 + number / 1e6)
    assert len(found._buckets) < 4000


def test_the_cumulative_curve_rises_to_one() -> None:
    values, shares = of([1.0, 2.0, 2.0, 4.0]).cumulative()
    assert shares == [0.25, 0.75, 1.0]
    assert all(math.isclose(value, exact, rel_tol=0.0006) for value, exact in zip(values, (1, 2, 4), strict=True))
