"""Service-level objectives: bounds on latencies, of one request or of percentiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orcinus.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SLO:
    """Upper bounds on latencies in seconds, by metric.

    `ttft` bounds that of every request (goodput), `ttft.p99` a percentile of all (capacity). Raises `ConfigError` for a
    bound that is not above 0.
    """

    bounds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for metric, seconds in self.bounds.items():
            if not 0 < seconds < math.inf:
                raise ConfigError(f"an objective must be a number of seconds above 0, not {metric} <= {seconds}")

    def missed(self, found: Mapping[str, float]) -> list[Miss]:
        """The bounds that these latencies exceed.

        An unknown or NaN latency counts as exceeded.
        """
        seconds = {metric: found.get(metric, math.nan) for metric in self.bounds}
        return [Miss(metric, seconds[metric], bound) for metric, bound in self.bounds.items() if not seconds[metric] <= bound]


@dataclass(frozen=True, slots=True)
class Miss:
    """An exceeded bound in seconds; an unknown latency is NaN."""

    metric: str
    seconds: float
    bound: float

    def describe(self, digits: Callable[[float], str], name: str = "") -> str:
        """The miss in words.

        `digits` formats a number; `name` replaces the metric's own name.
        """
        name = name or self.metric
        if math.isnan(self.seconds):
            return f"{name} is unknown, as not every run has one"
        found, times, bound = map(digits, (self.seconds * 1e3, self.seconds / self.bound, self.bound * 1e3))
        return f"{name} is {found} ms, {times} times the objective of {bound} ms"


def capacity_slo(bounds: Mapping[str, float | None]) -> SLO:
    """The SLO of a capacity search, without bounds that are None.

    Raises `ConfigError` if all are None.
    """
    given = {metric: seconds for metric, seconds in bounds.items() if seconds is not None}
    if not given:
        raise ConfigError(f"a capacity needs an objective: bound one of {', '.join(bounds)}")
    return SLO(given)
