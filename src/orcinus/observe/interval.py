"""Medians of few repeats, with confidence intervals.

Times on real machines have long tails, so no distribution is assumed: the interval of a median lies between two of the
measured values (Hoefler & Belli, Scientific Benchmarking of Parallel Computing Systems, SC 2015, 3.1.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and its confidence interval; `level` is its probability."""

    median: float
    low: float
    high: float
    level: float


def median_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The median's confidence interval, between two of the values.

    They are the k-th smallest and the k-th largest: the narrowest pair that has the level. The level is exact, and at least
    `level` if there are enough values. With five or fewer the interval is the whole range, at a lower level: 94 % for five,
    75 % for three. NaN without values.
    """
    ordered = sorted(values)
    if not ordered or any(math.isnan(value) for value in ordered):
        return Interval(math.nan, math.nan, math.nan, 0.0)
    rank = 1
    while rank < (len(ordered) + 1) // 2 and coverage(len(ordered), rank + 1) >= level:
        rank += 1
    return Interval(median(ordered), ordered[rank - 1], ordered[-rank], coverage(len(ordered), rank))


def coverage(count: int, rank: int) -> float:
    """The probability that the interval between two order statistics holds the median.

    They are the `rank`-th smallest and `rank`-th largest of `count` values. A value is above the median with probability 1/2,
    so the number below it is binomial.
    """
    outside: float = sum(math.comb(count, below) for below in range(rank)) / 2**count
    return max(0.0, 1.0 - 2.0 * outside)


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Each value over that of the same round; NaN over 0."""
    return [value / other if other else math.nan for value, other in zip(values, base, strict=True)]
