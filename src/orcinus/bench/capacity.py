"""The highest rate at which a system keeps promises about latency, found as the simulator finds it, by measuring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from orcinus.bench.config import LoadConfig
from orcinus.bench.formatting import digits
from orcinus.bench.measure import metrics
from orcinus.bench.record import Repeat
from orcinus.bench.result import Result, Side, Work
from orcinus.bench.runner import Bar, System, make_result, no_bar
from orcinus.bench.summary import summarize
from orcinus.bench.sweep import any_rate, points_at
from orcinus.errors import ConfigError
from orcinus.observe.interval import Interval, median_interval
from orcinus.workload.rates import RateGrid

Promises = Mapping[str, float]  # metric -> seconds at most: {"tbt.p99": 0.05}
LONGEST_S = 600.0  # that one run may take by its rate: what is not kept then is kept at no rate


def run_capacity(
    systems: Sequence[System],
    load: LoadConfig,
    work: Work,
    promises: Promises,
    *,
    first: float,
    tolerance: float,
    bar: Bar = no_bar,
) -> Result:
    """Search for the capacity of each system; every rate that is tried becomes a side of the result.

    A rate keeps a promise if the median of its repeats does. Ctrl-C ends it with what was measured until then. Raises
    `ConfigError`.
    """
    if not promises:
        raise ConfigError("a capacity needs a promise: a P99 TTFT, a P99 TBT or a median TTFT")
    for name, seconds in promises.items():
        if not 0 < seconds < math.inf:
            raise ConfigError(f"a promise must be a number of seconds above 0, not {name} <= {seconds}")
    search, found, complete = Search(load, work, promises, RateGrid(first, tolerance), bar), dict[str, float](), False
    with suppress(KeyboardInterrupt):
        for system in systems:
            found[system.name] = search.capacity(system)
        complete = True
    return make_result("capacity", any_rate(work), search.sides, objectives=dict(promises), capacity=found, complete=complete)


class _NotMeasured(Exception):
    """No run at this rate may be believed: nobody knows what is kept there."""


class Search:
    """Rates that were tried, as sides of a result."""

    def __init__(self, load: LoadConfig, work: Work, promises: Promises, grid: RateGrid, bar: Bar = no_bar) -> None:
        self._load, self._work, self._promises, self._grid, self._bar = load, work, promises, grid, bar
        self.sides: list[Side] = []

    def capacity(self, system: System) -> float:
        """Requests per second; 0 if the promises are kept at no rate. If one cannot be measured, the highest that kept them."""
        known: dict[int, bool] = {}
        system.warm_up(self._load.make(self._work.seed))

        def keeps(step: int) -> bool:
            if step not in known:
                rate = self._grid.rate(step)
                if self._work.requests / rate > LONGEST_S and not any(known.values()):
                    raise _NotMeasured
                known[step] = self._try(system, rate)
            return known[step]

        try:
            step = self._grid.highest(keeps)
        except _NotMeasured:
            step = max((step for step, kept in known.items() if kept), default=None)
        return 0.0 if step is None else self._grid.rate(step)

    def _try(self, system: System, rate: float) -> bool:
        (point,) = points_at([system], self._load, self._work.seed, rate)
        repeats: list[Repeat] = []
        for number in range(self._load.repeats):
            watch = self._bar(f"{point.name}, {number + 1} of {self._load.repeats}", self._work.requests)
            repeats.append(system.measure(point.workload, number, watch))
            watch(self._work.requests)
        known = any(repeat.valid for repeat in repeats)
        kept = kept_by(repeats, self._promises) if known else None
        self.sides.append(Side(name=point.name, settings={**point.settings, "kept": kept}, repeats=tuple(repeats)))
        if kept is None:
            raise _NotMeasured
        return kept


def kept_by(repeats: Sequence[Repeat], promises: Promises) -> bool:
    """Whether the medians of valid repeats keep every promise; a promise about what nobody got is not kept."""
    valid = [metrics(repeat) for repeat in repeats if repeat.valid]
    if not valid or any(found["not_served"] for found in valid):
        return False
    return all(
        all(name in found for found in valid) and median_interval([found[name] for found in valid]).median <= most
        for name, most in promises.items()
    )


def missed(result: Result) -> list[str]:
    """Of every system that kept its promises at no rate: each promise that its lowest rate broke, and by how much."""
    lines = []
    for name in (name for name, rate in result.capacity.items() if rate == 0):
        tried = [side for side in result.sides if side.settings["system"] == name and any(r.valid for r in side.repeats)]
        if tried:
            lowest = min(tried, key=rate_of)
            found = summarize([lowest])[0].intervals
            lines += [
                f"{name}, at {digits(rate_of(lowest))} requests/s: {_broken(promise, most, found.get(promise))}"
                for promise, most in result.objectives.items()
                if promise not in found or not found[promise].median <= most
            ]
    return lines


def _broken(promise: str, most: float, found: Interval | None) -> str:
    if found is None:
        return f"{promise} is unknown, for not every run has one"
    times = f"{digits(found.median / most)} times the {digits(most * 1e3)} ms promised"
    return f"{promise} is {digits(found.median * 1e3)} ms, {times}"


def rate_of(side: Side) -> float:
    """Requests per second that were offered."""
    rate: Any = side.settings["rate"]
    return float(rate)
