"""Measures every system at several rates: latency against throughput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orcinus.bench.config import LoadConfig
from orcinus.bench.measure import read_slo
from orcinus.bench.result import Result, Work
from orcinus.bench.runner import Bar, Point, System, make_result, measure_points, no_bar
from orcinus.errors import ConfigError
from orcinus.workload.rates import at_rate


def run_sweep(systems: Sequence[System], load: LoadConfig, work: Work, rates: Sequence[float], bar: Bar = no_bar) -> Result:
    """Every system at every rate, in turn, with the same requests.

    Ctrl-C keeps the measurements so far. Raises `ConfigError` if the arrivals have no rate.
    """
    slo = read_slo(load.goodput)
    points = [point for rate in rates for point in points_at(systems, load, work.seed, rate)]
    sides, complete = measure_points(points, load.repeats, work.requests, bar)
    return make_result("sweep", any_rate(work), sides, objectives=dict(slo.bounds), complete=complete)


def any_rate(work: Work) -> Work:
    """A result's work without the arrival rate, which varies."""
    name, *options = work.arrivals.split(":")
    return replace(work, arrivals=":".join([name, *(each for each in options if not each.startswith("rate="))]))


def points_at(systems: Sequence[System], load: LoadConfig, seed: int, rate: float) -> list[Point]:
    """All systems with the requests at a rate in requests/s."""
    workload = replace(load, arrivals=at_rate(load.arrivals, rate)).make(seed)
    return [
        Point(f"{system.name}, {rate:g}/s", system, workload, {**system.settings, "system": system.name, "rate": rate})
        for system in systems
    ]


def read_rates(words: str) -> list[float]:
    """`1,2,4` as rising rates in requests per second. Raises `ConfigError`."""
    try:
        rates = sorted({float(word) for word in words.split(",")})
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise ConfigError(f"--rates wants requests per second with commas between, such as 1,2,4, not {words!r}")
    return rates
