"""The numbers of a report: those of `orcinus.bench.summary`, with what a page wants to know besides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orcinus.bench.compare import SURE
from orcinus.bench.measure import HIGHER_IS_BETTER, LATENCIES
from orcinus.bench.record import Repeat
from orcinus.bench.result import Result, Side
from orcinus.bench.summary import Summary, summarize
from orcinus.observe.interval import Interval

Judgement = Literal["better", "worse", "unclear", ""]


@dataclass(frozen=True, slots=True)
class SideNumbers:
    """One side, its summary against the first side at the same rate, and the repeats that this rests on."""

    side: Side
    summary: Summary
    used: tuple[Repeat, ...]

    @property
    def name(self) -> str:
        return self.side.name

    def median(self, metric: str) -> float:
        """NaN if it is not known."""
        found = self.summary.median(metric)
        return math.nan if found is None else found


def side_numbers(result: Result) -> tuple[SideNumbers, ...]:
    """Of every side. Repeats that must not be believed are left out, unless there are no others at all."""
    invalid_too = not any(repeat.valid for side in result.sides for repeat in side.repeats)
    goodput = {} if result.kind == "capacity" else result.objectives  # there they are promises about percentiles
    groups: dict[float | None, list[Side]] = {}
    for side in result.sides:
        groups.setdefault(rate_of(side), []).append(side)
    found = [summarize(group, goodput, invalid_too=invalid_too) for group in groups.values()]
    by_name = {summary.name: summary for summaries in found for summary in summaries}
    return tuple(SideNumbers(side, by_name[side.name], _used(side, invalid_too)) for side in result.sides)


def rate_of(side: Side) -> float | None:
    """Requests per second that were offered, if the side was set to some."""
    rate = side.settings.get("rate")
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) else None


def judge(metric: str, ratio: Interval) -> Judgement:
    """Whether the ratio tells better from worse: not with few repeats, nor if the true one may be 1."""
    if ratio.level < SURE or not (metric in HIGHER_IS_BETTER or metric.partition(".")[0] in LATENCIES):
        return ""
    if ratio.low <= 1 <= ratio.high:
        return "unclear"
    return "better" if (ratio.low > 1) == (metric in HIGHER_IS_BETTER) else "worse"


def _used(side: Side, invalid_too: bool) -> tuple[Repeat, ...]:
    """As in a summary: those that were interrupted count only where there is nothing else."""
    found: Sequence[Repeat] = [repeat for repeat in side.repeats if repeat.valid or invalid_too]
    return tuple(repeat for repeat in found if not repeat.partial) or tuple(found)
