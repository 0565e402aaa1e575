"""Numbers of measured sides: metrics by round, medians and quotients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orcinus.bench.measure import e2e, metrics
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.result import Side
from orcinus.observe.interval import Interval, median_interval, ratios

Reading = Callable[[Repeat], float]  # one number of one run


def reading(metric: str) -> Reading:
    """A metric by its name in orcinus.bench.measure; latencies in milliseconds."""
    factor = 1e3 if "." in metric else 1.0
    return lambda repeat: factor * metrics(repeat)[metric]


def per_token(repeat: Repeat) -> list[float]:
    """Normalized latency: milliseconds per generated token, by request (Orca, 6.2)."""
    served = [each for each in repeat.requests if each.outcome is RequestOutcome.OK and each.output_tokens]
    return [1e3 * e2e(each) / (each.output_tokens or 1) for each in served]


def whole(side: Side) -> list[Repeat]:
    """The runs that are complete and valid."""
    return [repeat for repeat in side.repeats if repeat.valid and not repeat.partial]


def rounds(side: Side, read: Reading) -> dict[int, float]:
    """The number in every valid round."""
    return {repeat.round: read(repeat) for repeat in whole(side)}


def typical(side: Side, read: Reading) -> Interval:
    """The median over all rounds."""
    return of_rounds(rounds(side, read))


def over(side: Side, base: Side, read: Reading) -> Interval:
    """The quotient of the numbers of two sides."""
    return quotients(rounds(side, read), rounds(base, read))


def of_rounds(found: Mapping[int, float]) -> Interval:
    """The median of one number per round."""
    return median_interval([*found.values()])


def quotients(found: Mapping[int, float], base: Mapping[int, float]) -> Interval:
    """Quotients of two numbers, round by round.

    A disturbance affects both numbers of a round.
    """
    both = sorted(found.keys() & base.keys())
    return median_interval(ratios([found[number] for number in both], [base[number] for number in both]))


def exactly(value: float) -> Interval:
    """An exact number, as an interval of no width."""
    return Interval(value, value, value, 1.0)
