"""Curves of sides that differ only in the rate of arrivals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from orcinus.bench.measure import e2e
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.report.numbers import SideNumbers
from orcinus.bench.result import Setting, Side
from orcinus.bench.summary import rate_of
from orcinus.observe.interval import Interval, median_interval
from orcinus.plots.rates import RatePoint, Span

PANELS = (
    ("ttft.p50", "time to first token, median"),
    ("ttft.p99", "time to first token, p99"),
    ("tbt.p99", "time between tokens, p99"),
    ("normalized_latency", "latency per output token, median"),
)


def curves(sides: Sequence[SideNumbers]) -> list[tuple[str, list[RatePoint]]]:
    """Curves of at least two rates, by name.

    Points are ordered by rate.
    """
    groups: dict[tuple[tuple[str, Setting], ...], list[SideNumbers]] = {}
    for side in sides:
        if rate_of(side.side) is not None and "request_throughput" in side.summary.intervals:
            groups.setdefault(_others(side.side), []).append(side)
    found = {key: sorted(some, key=lambda one: rate_of(one.side) or 0.0) for key, some in groups.items() if len(some) > 1}
    return [(name, [_point(side) for side in some]) for name, some in zip(_names(list(found)), found.values(), strict=True)]


def _others(side: Side) -> tuple[tuple[str, Setting], ...]:
    return tuple(sorted((key, value) for key, value in side.settings.items() if key not in ("rate", "kept")))


def _names(groups: Sequence[tuple[tuple[str, Setting], ...]]) -> list[str]:
    """The curves' names: their systems, or the options that differ."""
    common = set(groups[0]).intersection(*groups) if groups else set()
    return [
        str(
            dict(group).get("system")
            or ", ".join(f"{key}={value}" for key, value in group if (key, value) not in common)
            or "all"
        )
        for group in groups
    ]


def _point(numbers: SideNumbers) -> RatePoint:
    found = numbers.summary.intervals
    latencies = {name: _span(found[name]) for name, _ in PANELS if name in found}
    normalized = [value for repeat in numbers.used if (value := _normalized_latency(repeat)) is not None]
    if normalized:
        latencies["normalized_latency"] = _span(median_interval(normalized))
    return RatePoint(_span(found["request_throughput"]), latencies)


def _span(interval: Interval) -> Span:
    return interval.low, interval.median, interval.high


def _normalized_latency(repeat: Repeat) -> float | None:
    """Median end-to-end latency over output tokens, in seconds (Orca, section 6)."""
    served = [each for each in repeat.requests if each.outcome is RequestOutcome.OK]
    values = [e2e(each) / each.output_tokens for each in served if each.output_tokens]
    return median(values) if values else None
