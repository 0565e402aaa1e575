"""One row of the acceptance table: an experiment of a paper, what it published, and what comes out here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

FAR = 2.0  # times off, that no tolerance of a reproduction would call a pass


class Source(StrEnum):
    """Where a published number comes from, and how exact it is."""

    PRINTED = "P"  # text or table: exact
    VECTOR = "V"  # read off a vector drawing: half a per cent
    IMAGE = "I"  # read off a raster copy: two per cent
    ARTEFACT = "A"  # the authors' published code or data
    DERIVED = "D"  # by arithmetic


@dataclass(frozen=True, slots=True)
class Check:
    """One published number beside ours. `low` and `high` are the relative errors that are still a pass: -0.05 and 0.05.

    A check without numbers is an ordering that must hold: `holds` says whether it does.
    """

    what: str
    published: float | None = None
    simulated: float | None = None
    low: float = 0.0
    high: float = 0.0
    unit: str = ""
    holds: bool | None = None

    @property
    def error(self) -> float | None:
        """Relative to the published number."""
        if self.published is None or self.simulated is None:
            return None
        return self.simulated / self.published - 1

    @property
    def times(self) -> float | None:
        """Our number over the published one."""
        return self.simulated / self.published if self.published and self.simulated else None

    @property
    def only_bound(self) -> bool:
        """Whether it passes as a bound that our number keeps, being far from the published one."""
        return self.passed and self.times is not None and not 1 / FAR <= self.times <= FAR

    @property
    def passed(self) -> bool:
        if self.holds is not None:
            return self.holds
        error = self.error
        return error is not None and not math.isnan(error) and self.low - 1e-9 <= error <= self.high + 1e-9


def within(what: str, published: float, simulated: float, tolerance: float, unit: str = "") -> Check:
    """A number that may be off by a share of the published one, upwards or downwards."""
    return Check(what, published, simulated, -tolerance, tolerance, unit)


def ordering(what: str, holds: bool) -> Check:
    """Something that must hold without exception."""
    return Check(what, holds=holds)


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a figure: points (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]
    published: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    bars: bool = False  # groups of bars over x instead of lines
    log_x: bool = False
    top: float | None = None  # of the vertical axis, where panels are to be compared


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of a paper with both curves: published and ours."""

    name: str  # of the file
    title: str
    panels: Sequence[Panel]
    ours: str = "simulated"  # how our curves came about


@dataclass(frozen=True, slots=True)
class Found:
    """What an experiment came to."""

    checks: Sequence[Check]
    notes: Sequence[str] = ()  # reasons of misses, and what the paper leaves open
    figures: Sequence[Figure] = ()
    skipped: str | None = None  # why the experiment could not be made here; what is shown instead claims nothing

    @property
    def passed(self) -> bool:
        return self.skipped is None and all(check.passed for check in self.checks)

    @property
    def only_bound(self) -> bool:
        """Whether it passes because a number that is far from the published one keeps a bound."""
        return self.passed and any(check.only_bound for check in self.checks)


@dataclass(frozen=True, slots=True)
class Row:
    """An experiment: `run` does it and says what was found."""

    number: int  # in the acceptance table; 0 for experiments besides, which decide nothing
    paper: str
    experiment: str  # the figure or table
    setup: str  # what is simulated
    tolerance: str
    calibrated: str  # which constants were fitted, and on what; "nothing" if none
    source: Source
    run: Callable[[], Found]
