"""The numbers of a report: summaries and verdicts of each side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orcinus.bench.ranking import RankingReason, Verdict, rank
from orcinus.bench.record import Repeat
from orcinus.bench.result import Result, Side
from orcinus.bench.summary import Summary, rate_of, summarize

Judgement = Literal["better", "worse", "unclear", ""]


@dataclass(frozen=True, slots=True)
class SideNumbers:
    """A side with its summary, verdicts, and the repeats behind them.

    `verdicts`, by metric, have the first side as `a` and this one as `b`; the first side itself has none.
    """

    side: Side
    summary: Summary
    used: tuple[Repeat, ...]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.side.name

    def median(self, metric: str) -> float:
        """The median of a metric; NaN if unknown."""
        found = self.summary.median(metric)
        return math.nan if found is None else found

    def judgement(self, metric: str) -> Judgement:
        """Better, worse or unclear against the first side; "" if undecided."""
        found = self.verdicts.get(metric)
        if found is None or found.reason in (RankingReason.FEW, RankingReason.AT_ONCE):
            return ""
        return {"a": "worse", "b": "better", None: "unclear"}[found.better]  # type: ignore[return-value]


def side_numbers(result: Result) -> tuple[SideNumbers, ...]:
    """The numbers of every side.

    Invalid repeats count only if a side has no others.
    """
    invalid_too = not any(repeat.valid for side in result.sides for repeat in side.repeats)
    groups: dict[float | None, list[Side]] = {}
    for side in result.sides:
        groups.setdefault(rate_of(side), []).append(side)
    found = [summarize(group, result.goodput_slo, invalid_too=invalid_too) for group in groups.values()]
    by_name = {summary.name: summary for summaries in found for summary in summaries}
    pairs = [] if invalid_too else [(first, other) for first, *others in found for other in others]
    verdicts = {b.name: {each.metric: each for each in some} for (_, b), some in zip(pairs, rank(pairs), strict=True)}
    return tuple(
        SideNumbers(side, by_name[side.name], _used(side, invalid_too), verdicts.get(side.name, {})) for side in result.sides
    )


def _used(side: Side, invalid_too: bool) -> tuple[Repeat, ...]:
    """The repeats of a summary.

    Interrupted ones count only if there are no others.
    """
    found: Sequence[Repeat] = [repeat for repeat in side.repeats if repeat.valid or invalid_too]
    return tuple(repeat for repeat in found if not repeat.partial) or tuple(found)
