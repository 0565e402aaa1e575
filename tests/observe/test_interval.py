"""Medians of few repeats: between which of the measured values the true one lies, and how surely."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.observe.interval import Interval, coverage, median_interval

FLOATS = st.floats(-1e6, 1e6)


def test_of_five_values_it_is_the_whole_range_with_94_percent() -> None:
    assert median_interval([3, 1, 2, 5, 4]) == Interval(3, 1, 5, 1 - 2 / 2**5)


def test_of_ten_values_the_two_outermost_are_left_out() -> None:
    assert median_interval(range(1, 11)) == Interval(5.5, 2, 9, 1 - 2 * (1 + 10) / 2**10)


def test_one_value_says_nothing_about_its_certainty() -> None:
    assert median_interval([7.0]) == Interval(7.0, 7.0, 7.0, 0.0)


def test_of_nothing_and_of_what_is_no_number_it_is_not_a_number() -> None:
    assert math.isnan(median_interval([]).median)
    assert math.isnan(median_interval([1.0, math.nan]).low)


@given(st.integers(1, 60), st.integers(1, 30))
def test_coverage_is_that_of_the_binomial_distribution(count: int, rank: int) -> None:
    """The median lies outside if fewer than `rank` of `count` fair coins show heads, or fewer than `rank` tails."""
    heads = [Fraction(1)]
    for _ in range(count):  # one more coin
        heads = [(left + right) / 2 for left, right in zip([0, *heads], [*heads, 0], strict=True)]
    assert coverage(count, rank) == pytest.approx(float(max(0, 1 - 2 * sum(heads[:rank]))), abs=1e-12)


@given(st.lists(FLOATS, min_size=6, max_size=60))
def test_it_is_the_narrowest_symmetric_one_that_covers_enough(values: list[float]) -> None:
    found, ordered = median_interval(values), sorted(values)
    ranks = [rank for rank in range(1, (len(values) + 1) // 2 + 1) if coverage(len(values), rank) >= 0.95]
    assert (found.low, found.high) == (ordered[ranks[-1] - 1], ordered[-ranks[-1]])
    assert found.level >= 0.95


def test_it_holds_the_true_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 7, 12):
        draws = rng.lognormal(size=(4000, count))
        intervals = [median_interval(row) for row in draws.tolist()]
        held = statistics.mean(each.low <= 1.0 <= each.high for each in intervals)
        assert held == pytest.approx(intervals[0].level, abs=0.015)
