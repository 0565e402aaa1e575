"""What a study says in the end: numbers beside published ones, and whether the shape of a figure was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orcinus.bench.interval import Interval, median_interval
from orcinus.bench.measure import metrics
from orcinus.bench.record import Repeat
from orcinus.bench.result import Side
from orcinus.papers.row import Figure

Reading = Callable[[Repeat], float]  # one number of one run


@dataclass(frozen=True, slots=True)
class Line:
    """A number of the paper, if it has one, beside ours. Both are in `unit`."""

    what: str
    published: float | None
    measured: Interval
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """One thing that a published figure shows: one number lies below another, by more than the intervals of both."""

    what: str
    less: Interval
    more: Interval
    unit: str = ""

    @property
    def found(self) -> bool:
        return self.less.high < self.more.low


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is said about one study."""

    lines: Sequence[Line]
    shapes: Sequence[Shape]
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()

    @property
    def found(self) -> bool:
        """Whether every part of the shape was found."""
        return all(shape.found for shape in self.shapes)


def reading(metric: str) -> Reading:
    """A metric by its name, as in orcinus.bench.measure: latencies in milliseconds."""
    factor = 1e3 if "." in metric else 1.0
    return lambda repeat: factor * metrics(repeat)[metric]


def rounds(side: Side, read: Reading) -> dict[int, float]:
    """The number in every round that may be believed."""
    return {repeat.round: read(repeat) for repeat in side.repeats if repeat.valid}


def typical(side: Side, read: Reading) -> Interval:
    """The median over all rounds."""
    return median_interval([*rounds(side, read).values()])


def over(side: Side, base: Side, read: Reading) -> Interval:
    """The number over that of another side in the same round: what disturbed the round disturbed both."""
    own, other = rounds(side, read), rounds(base, read)
    return median_interval([own[number] / other[number] for number in sorted(own.keys() & other.keys())])


def exactly(value: float) -> Interval:
    """A number that nobody measured."""
    return Interval(value, value, value, 1.0)
