"""Findings of experiments: published numbers beside ours, and orderings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orcinus.observe.interval import Interval
from orcinus.plots.figures import Figure

FAR = 2.0  # times off, that no tolerance of a reproduction would call a pass


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

    `low` and `high` are the relative errors that still pass, as -0.05 and 0.05.
    """

    what: str
    published: float
    simulated: float
    low: float = 0.0
    high: float = 0.0
    unit: str = ""

    @property
    def error(self) -> float:
        """The relative error against the published number."""
        return self.simulated / self.published - 1

    @property
    def passed(self) -> bool:
        return not math.isnan(self.error) and self.low - 1e-9 <= self.error <= self.high + 1e-9

    @property
    def times(self) -> float:
        """The simulated number over the published one."""
        return self.simulated / self.published

    @property
    def only_bound(self) -> bool:
        """Whether it passes only as a bound, far from the published number."""
        return self.passed and self.simulated != 0 and not 1 / FAR <= self.times <= FAR


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
