"""Medians of repeats, their intervals, and ratios to the first side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orcinus.bench.measure import metrics
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.result import Side
from orcinus.core.slo import SLO
from orcinus.observe.interval import Interval, median_interval, ratios


@dataclass(frozen=True, slots=True)
class Summary:
    """A side's metrics, and its `ratios` to the first side by round."""

    name: str
    values: Mapping[str, tuple[float, ...]]  # metric -> one value for each valid repeat
    intervals: Mapping[str, Interval]
    ratios: Mapping[str, Interval]
    invalid: int  # repeats that must not be believed; they are left out

    def median(self, metric: str) -> float | None:
        """The median of a metric; None if it was not measured."""
        found = self.intervals.get(metric)
        return None if found is None else found.median


def summarize(sides: Sequence[Side], slo: SLO | None = None, *, invalid_too: bool = False) -> list[Summary]:
    """The summaries of all sides, in order.

    Metrics that some repeats lack are left out. So are invalid repeats, unless `invalid_too`, and an interrupted one,
    unless there is nothing else.
    """
    by_round = [_by_round(side, slo, invalid_too) for side in sides]
    found = []
    for side, rounds in zip(sides, by_round, strict=True):
        names = _common(list(rounds.values()))
        values = {name: tuple(rounds[number][name] for number in sorted(rounds)) for name in names}
        intervals = {name: median_interval(each) for name, each in values.items()}
        to_first = {} if side is sides[0] else _ratios(rounds, by_round[0])
        found.append(Summary(side.name, values, intervals, to_first, sum(not repeat.valid for repeat in side.repeats)))
    return found


def same_outputs(sides: Sequence[Side]) -> bool | None:
    """Whether all repeats gave equal outputs to equal prompts; None if unknown."""
    seen: dict[tuple[int, int], list[str]] = {}  # draw and number of a request -> hashes
    for side in sides:
        for repeat in side.repeats:
            for request in repeat.requests:
                if request.outcome is RequestOutcome.OK:
                    seen.setdefault((repeat.draw, request.number), []).append(request.output)
    hashes = list(seen.values())
    if any("" in each for each in hashes) or all(len(each) == 1 for each in hashes):
        return None
    return all(len(set(each)) == 1 for each in hashes)


def rate_of(side: Side) -> float | None:
    """The offered requests per second; None if the side has no rate."""
    rate = side.settings.get("rate")
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) else None


def counted(side: Side, *, invalid_too: bool = False) -> list[Repeat]:
    """The repeats that count in a summary."""
    valid = [repeat for repeat in side.repeats if repeat.valid or invalid_too]
    whole = [repeat for repeat in valid if not repeat.partial]
    return whole or valid


def _by_round(side: Side, slo: SLO | None, invalid_too: bool) -> dict[int, dict[str, float]]:
    return {repeat.round: metrics(repeat, slo) for repeat in counted(side, invalid_too=invalid_too)}


def _common(found: Sequence[Mapping[str, float]]) -> list[str]:
    """The names that all of them have, in order."""
    return [name for name in found[0] if all(name in other for other in found)] if found else []


def _ratios(rounds: Mapping[int, Mapping[str, float]], base: Mapping[int, Mapping[str, float]]) -> dict[str, Interval]:
    """Intervals of the ratios over the rounds that both sides have."""
    both = sorted(set(rounds) & set(base))
    names = _common([rounds[number] for number in both] + [base[number] for number in both])
    names = [name for name in names if all(base[number][name] for number in both)]
    values = {name: ([rounds[number][name] for number in both], [base[number][name] for number in both]) for name in names}
    return {name: median_interval(ratios(*pair)) for name, pair in values.items()}
