"""Percentiles of millions of numbers in little memory."""

from __future__ import annotations

import math
from collections import Counter
from math import log

STEP = math.log1p(0.001)  # buckets grow by 0.1 %, so a percentile's error is at most 0.05 %
SMALLEST = 1e-9


class Distribution:
    """A histogram with logarithmic buckets: percentiles within 0.05 %.

    It works as DDSketch does (Masson et al., VLDB 2019). Count, sum, least and greatest are exact. Values are seconds or
    counts, at least 0; those below 1e-9 count as 0.
    """

    __slots__ = ("_buckets", "count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least, self.greatest = math.inf, -math.inf
        self._buckets: Counter[int | None] = Counter()  # None = zero

    def add(self, value: float, times: int = 1) -> None:
        """Add a value, `times` times."""
        self.count += times
        self.total += value * times
        if value < self.least:
            self.least = value
        if value > self.greatest:
            self.greatest = value
        self._buckets[round(log(value) / STEP) if value > SMALLEST else None] += times

    @property
    def mean(self) -> float:
        """The arithmetic mean; NaN if there are no values, as for percentiles."""
        return self.total / self.count if self.count else math.nan

    def percentile(self, p: float) -> float:
        """The p-th percentile (0-100): p % of values are at most this."""
        if not self.count:
            return math.nan
        if p >= 100:
            return self.greatest
        rank, seen = p / 100 * self.count, 0
        for bucket in sorted(self._buckets, key=lambda number: -math.inf if number is None else number):
            seen += self._buckets[bucket]
            if seen >= rank:
                value = 0.0 if bucket is None else math.exp(bucket * STEP)
                return min(max(value, self.least), self.greatest)
        return self.greatest

    def above(self, limit: float) -> int:
        """The number of values above a limit of at least 0."""
        if limit <= SMALLEST:
            return self.count - self._buckets[None]
        most = math.log(limit) / STEP
        return sum(times for bucket, times in self._buckets.items() if bucket is not None and bucket > most)

    def cumulative(self) -> tuple[list[float], list[float]]:
        """The points of the cumulative distribution: values, and shares up to each."""
        values, shares, seen = [], [], 0
        for bucket in sorted(self._buckets, key=lambda number: -math.inf if number is None else number):
            seen += self._buckets[bucket]
            values.append(0.0 if bucket is None else math.exp(bucket * STEP))
            shares.append(seen / self.count)
        return values, shares

    def summary(self) -> dict[str, float]:
        """Mean and percentiles by name."""
        named = {f"p{p}": self.percentile(p) for p in (50, 90, 95, 99)}
        return {"mean": self.mean, **named, "max": self.greatest if self.count else math.nan}
