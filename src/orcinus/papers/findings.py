"""Findings of experiments: published numbers beside ours, and orderings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from orcinus.observe.interval import Interval, median_interval
from orcinus.plots.figures import Figure


class NumberSource(StrEnum):
    """A published number's source, and how exactly it is known."""

    PRINTED = "P"  # text or table: exact
    VECTOR = "V"  # read off a vector drawing: half a per cent
    IMAGE = "I"  # read off a raster copy: two per cent
    ARTEFACT = "A"  # the authors' published code or data
    DERIVED = "D"  # by arithmetic


@dataclass(frozen=True, slots=True)
class Number:
    """A published number beside a simulated one.

    `low` and `high` are the relative errors that still pass, as -0.05 and 0.05; None where there is no bound. Of several seeds
    `simulated` is the median, in its `interval`.
    """

    what: str
    published: float
    simulated: float
    low: float | None = 0.0
    high: float | None = 0.0
    unit: str = ""
    interval: Interval | None = None

    @property
    def error(self) -> float:
        """The relative error against the published number."""
        return self.simulated / self.published - 1

    @property
    def passed(self) -> bool:
        return self._passes(self.simulated)

    @property
    def sure(self) -> bool:
        """Whether both ends of the interval over seeds pass too, or fail too."""
        ends = [] if self.interval is None else [self.interval.low, self.interval.high]
        return all(self._passes(end) == self.passed for end in ends)

    def _passes(self, simulated: float) -> bool:
        error = simulated / self.published - 1
        above = self.low is None or error >= self.low - 1e-9
        return not math.isnan(error) and above and (self.high is None or error <= self.high + 1e-9)

    @property
    def times(self) -> float:
        """The simulated number over the published one."""
        return self.simulated / self.published

    @property
    def only_bound(self) -> bool:
        """Whether it passes only because it is bounded on one side.

        It lies further off on the open side than it might on the other.
        """
        closed = self.low if self.high is None else self.high if self.low is None else None
        return self.passed and closed is not None and abs(self.error) > abs(closed) + 1e-9


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured median beside the paper's number; never a miss."""

    what: str
    published: str
    measured: Interval
    unit: str = ""

    @property
    def passed(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Ordering:
    """A statement that must hold without exception.

    For two measured medians, it compares their intervals.
    """

    what: str
    passed: bool
    less: Interval | None = None
    more: Interval | None = None
    unit: str = ""


Comparison = Number | Measurement | Ordering


def within(what: str, published: float, simulated: float, tolerance: float, unit: str = "") -> Number:
    """A number with a tolerance, as a share of the published one."""
    return Number(what, published, simulated, -tolerance, tolerance, unit)


def below(what: str, less: Interval, more: Interval, unit: str = "") -> Ordering:
    """Requires one measured number below another, with separate intervals."""
    return Ordering(what, less.high < more.low, less, more, unit)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of an experiment."""

    comparisons: Sequence[Comparison]
    notes: Sequence[str] = ()  # reasons of misses, and what the paper leaves open
    figures: Sequence[Figure] = ()
    skipped: str | None = None  # why the experiment could not be made here; what is shown instead claims nothing

    @property
    def passed(self) -> bool:
        return self.skipped is None and all(each.passed for each in self.comparisons)

    @property
    def bounds(self) -> list[Number]:
        """Numbers that pass only as bounds, if the finding passes."""
        numbers = [each for each in self.comparisons if isinstance(each, Number)]
        return [each for each in numbers if each.only_bound] if self.passed else []

    @property
    def orderings(self) -> list[Ordering]:
        return [each for each in self.comparisons if isinstance(each, Ordering)]

    @property
    def measurements(self) -> list[Measurement]:
        return [each for each in self.comparisons if isinstance(each, Measurement)]


def over_seeds(findings: Sequence[Finding]) -> Finding:
    """The findings of several seeds as one.

    Numbers become medians with their intervals. A statement must hold for every seed. Notes and figures are the first seed's.
    """
    first = findings[0]
    together = [_over_seeds(each) for each in zip(*(found.comparisons for found in findings), strict=True)]
    return replace(first, comparisons=together)


def _over_seeds(each: Sequence[Comparison]) -> Comparison:
    """One comparison of several seeds."""
    first = each[0]
    if isinstance(first, Number):
        found = median_interval([one.simulated for one in each if isinstance(one, Number)])
        return replace(first, simulated=found.median, interval=found)
    if isinstance(first, Ordering):
        held = sum(one.passed for one in each)
        seeds = "" if held in (0, len(each)) else f" (for {held} of {len(each)} seeds)"
        return replace(first, what=first.what + seeds, passed=held == len(each))
    return first
