"""Decides which of two sides is better, by one rule everywhere.

The repeats of both sides are ranked together. One side is better if equal sides would seldom differ that much (exact
Mann-Whitney test, which assumes nothing about the distribution of times). The more metrics and sides are compared, the more
they have to differ (Holm's correction), so that among benchmarks of equal sides at most one in a hundred names any winner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import NamedTuple

import numpy as np

from orcinus.bench.measure import HIGHER_IS_BETTER
from orcinus.bench.summary import Summary
from orcinus.observe.interval import Interval

LEVEL = 0.99  # probability that a benchmark of equal sides calls none better
METRICS = (
    *("request_throughput", "output_throughput", "total_throughput", "goodput"),
    *(f"{name}.{part}" for name in ("ttft", "tbt", "tpot", "e2e") for part in ("p50", "p99")),
)


class RankingReason(StrEnum):
    """Why neither side is better."""

    NOISE = "there is no difference beyond the noise"
    FEW = "more repeats are needed"
    AT_ONCE = "all tokens came at once, so there are no times between them"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The better side in a metric, "a" or "b".

    None if neither is; then `reason` says why.
    """

    metric: str
    a: Interval
    b: Interval
    better: str | None
    reason: RankingReason | None
    chance: float  # probability that equal sides differ so much in any comparison
    needed: int  # repeats per side needed for so many comparisons

    @property
    def ratio(self) -> float | None:
        """Ratio of the medians, b over a."""
        return self.b.median / self.a.median if self.a.median else None

    @property
    def why(self) -> str:
        """The reason in words; empty if one side is better."""
        least = f": measure both at least {self.needed} times" if self.reason is RankingReason.FEW else ""
        return f"{self.reason or ''}{least}"


class _Comparison(NamedTuple):
    pair: int
    metric: str
    a: tuple[float, ...]
    b: tuple[float, ...]


def rank(pairs: Sequence[tuple[Summary, Summary]], leave_out: Sequence[str] = ()) -> list[list[Verdict]]:
    """Verdicts on each pair (a, b) in every shared metric of `METRICS`.

    All of them form one family of comparisons.
    """
    made = [
        _Comparison(number, metric, a.values[metric], b.values[metric])
        for number, (a, b) in enumerate(pairs)
        for metric in METRICS
        if metric in a.values and metric in b.values and metric not in leave_out
    ]
    tested = [each for each in made if not _at_once(each)]
    needed = repeats_for(len(tested))
    chances = dict(zip(tested, holm([chance(each.a, each.b) for each in tested]), strict=True))
    found: list[list[Verdict]] = [[] for _ in pairs]
    for each in made:
        a, b = (side.intervals[each.metric] for side in pairs[each.pair])
        better, reason = _decide(each, chances[each], len(tested)) if each in chances else (None, RankingReason.AT_ONCE)
        found[each.pair].append(Verdict(each.metric, a, b, better, reason, chances.get(each, 1.0), needed))
    return found


def _at_once(each: _Comparison) -> bool:
    """Whether tokens came together, so that times between them mean nothing."""
    return each.metric.startswith(("tbt", "tpot")) and 0 in (np.median(each.a), np.median(each.b))


def _decide(each: _Comparison, found: float, comparisons: int) -> tuple[str | None, RankingReason | None]:
    """The better side, or the reason why neither is."""
    if found > 1 - LEVEL:
        few = least_chance(len(each.a), len(each.b)) * comparisons > 1 - LEVEL
        return None, RankingReason.FEW if few else RankingReason.NOISE
    greater, smaller = ("a", "b") if rank_sum(each.a, each.b) > 0 else ("b", "a")
    return (greater if each.metric in HIGHER_IS_BETTER else smaller), None


def _ranks(values: Sequence[float]) -> list[int]:
    """Ranks times two, so that ties have whole numbers."""
    ordered = sorted(values)
    return [2 * ordered.index(value) + ordered.count(value) + 1 for value in values]


def rank_sum(a: Sequence[float], b: Sequence[float]) -> int:
    """The excess of the ranks of `a` over those of equal sides.

    0 if the sides are equal.
    """
    ranks = _ranks([*a, *b])
    return len(ranks) * sum(ranks[: len(a)]) - len(a) * sum(ranks)


def chance(a: Sequence[float], b: Sequence[float]) -> float:
    """The exact probability that equal sides differ at least this much.

    1 if there is nothing to compare.
    """
    if not a or not b or any(map(math.isnan, (*a, *b))):
        return 1.0
    ranks = _ranks([*a, *b])
    total = sum(ranks)
    ways = np.zeros((len(a) + 1, total + 1))  # ways to choose so many values with this sum of ranks
    ways[0, 0] = 1.0
    for each in ranks:
        ways[1:, each:] += ways[:-1, : total + 1 - each].copy()
    distances = np.abs(len(ranks) * np.arange(total + 1) - len(a) * total)
    return float(ways[-1, distances >= abs(rank_sum(a, b))].sum() / ways[-1].sum())


def least_chance(a: int, b: int) -> float:
    """The smallest possible `chance` of this many repeats: no overlap."""
    return min(1.0, 2 / math.comb(a + b, a))


def repeats_for(comparisons: int) -> int:
    """Repeats per side that can decide this many comparisons."""
    return next(number for number in count(1) if least_chance(number, number) * comparisons <= 1 - LEVEL)


def holm(chances: Sequence[float]) -> list[float]:
    """Probabilities corrected for the number of comparisons (Holm, 1979)."""
    found, worst = [1.0] * len(chances), 0.0
    for place, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        worst = max(worst, min(1.0, (len(chances) - place) * chances[index]))
        found[index] = worst
    return found
