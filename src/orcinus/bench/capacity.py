"""Measures the highest rate at which a system keeps an SLO."""

from __future__ import annotations

from collections.abc import Sequence
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
from orcinus.core.slo import SLO
from orcinus.observe.interval import median_interval
from orcinus.workload.rates import RateGrid, at_rate

LONGEST_S = 600.0  # longest run at a rate: an SLO still missed then is kept at no rate


def run_capacity(
    systems: Sequence[System],
    load: LoadConfig,
    work: Work,
    slo: SLO,
    *,
    first: float,
    tolerance: float,
    bar: Bar = no_bar,
) -> Result:
    """Each system's capacity; every rate that was tried becomes a side.

    A rate keeps an objective if the median of its repeats does. Ctrl-C ends the search and keeps the measurements so far.
    Raises `ConfigError`, before anything runs if the arrivals have no rate.
    """
    at_rate(load.arrivals, first)
    search, found, complete = Search(load, work, slo, RateGrid(first, tolerance), bar), dict[str, float](), False
    with suppress(KeyboardInterrupt):
        for system in systems:
            found[system.name] = search.capacity(system)
        complete = True
    return make_result("capacity", any_rate(work), search.sides, objectives=dict(slo.bounds), capacity=found, complete=complete)


class _NotMeasured(Exception):
    """A rate has no valid run, so its latencies are unknown."""


class Search:
    """The rates that were tried, as sides of a result."""

    def __init__(self, load: LoadConfig, work: Work, slo: SLO, grid: RateGrid, bar: Bar = no_bar) -> None:
        self._load, self._work, self._slo, self._grid, self._bar = load, work, slo, grid, bar
        self.sides: list[Side] = []

    def capacity(self, system: System) -> float:
        """Requests per second; 0 if no rate keeps the SLO.

        If a rate cannot be measured, the highest rate below it that kept the SLO.
        """
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
        kept = kept_by(repeats, self._slo) if known else None
        self.sides.append(Side(name=point.name, settings={**point.settings, "kept": kept}, repeats=tuple(repeats)))
        if kept is None:
            raise _NotMeasured
        return kept


def kept_by(repeats: Sequence[Repeat], slo: SLO) -> bool:
    """Whether the medians of valid repeats keep an SLO."""
    valid = [metrics(repeat) for repeat in repeats if repeat.valid]
    if not valid or any(found["not_served"] for found in valid):
        return False
    known = [metric for metric in slo.bounds if all(metric in found for found in valid)]
    return not slo.missed({metric: median_interval([found[metric] for found in valid]).median for metric in known})


def missed(result: Result) -> list[str]:
    """Objectives missed by systems without a capacity, with the excess."""
    lines = []
    for name in (name for name, rate in result.capacity.items() if rate == 0):
        tried = [side for side in result.sides if side.settings["system"] == name and any(r.valid for r in side.repeats)]
        if tried:
            lowest = min(tried, key=rate_of)
            medians = {metric: found.median for metric, found in summarize([lowest])[0].intervals.items()}
            misses = SLO(result.objectives).missed(medians)
            lines += [f"{name}, at {digits(rate_of(lowest))} requests/s: {miss.describe(digits)}" for miss in misses]
    return lines


def rate_of(side: Side) -> float:
    """The offered requests per second."""
    rate: Any = side.settings["rate"]
    return float(rate)
