"""The highest request rate at which promises about latency are kept (Sarathi-Serve, section 5.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from orcinus.core.spelled import options_of
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig
from orcinus.sim.run import Outcome, set_up, simulate, workload_of
from orcinus.workload.processes import ARRIVALS


@dataclass(frozen=True, slots=True)
class Objectives:
    """What has to hold, in seconds; None = no promise. Raises `ConfigError` if nothing is promised, or the impossible."""

    p99_tbt: float | None = None  # pooled over tokens
    p99_ttft: float | None = None
    median_delay: float | None = None  # scheduling delay, which grows without bounds when a queue does

    def __post_init__(self) -> None:
        promised = [value for value in (self.p99_tbt, self.p99_ttft, self.median_delay) if value is not None]
        if not promised:
            raise ConfigError("a capacity needs an objective: a P99 TBT, a P99 TTFT or a median scheduling delay")
        if not all(0 < value < math.inf for value in promised):
            raise ConfigError("objectives must be above 0 seconds")

    def kept(self, outcome: Outcome) -> bool:
        """Whether a simulation kept them; one that served nobody keeps none."""
        metrics = outcome.metrics
        found = (
            (self.p99_tbt, metrics.tbt.percentile(99) if metrics.tbt.count else 0.0),
            (self.p99_ttft, metrics.ttft.percentile(99)),
            (self.median_delay, metrics.scheduling_delay.percentile(50)),
        )
        return metrics.served > 0 and all(value <= promised for promised, value in found if promised is not None)


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate that was tried."""

    rate: float  # requests per second
    kept: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate that was seen to keep the objectives, 0 if none; and all trials in order."""

    rate: float
    trials: tuple[Trial, ...]


def at_rate(config: SimulationConfig, rate: float) -> SimulationConfig:
    """The same requests at another rate: the pattern is only stretched (common random numbers). Raises `ConfigError`."""
    name, *options = config.arrivals.split(":")
    kind = ARRIVALS.get(name)
    if kind is None or "rate" not in options_of(kind):
        raise ConfigError(f"the arrival process {name!r} has no rate to search for: use poisson, gamma or constant")
    kept = [option for option in options if not option.startswith("rate=")]
    return replace(config, arrivals=":".join([name, f"rate={rate!r}", *kept]))


def find_capacity(
    config: SimulationConfig,
    objectives: Objectives,
    *,
    tolerance: float = 0.025,
    first: float = 1.0,
    watch: Callable[[Trial], None] | None = None,
) -> Capacity:
    """Double or halve the rate until the answer is enclosed, then bisect until it is known to within `tolerance`.

    Every trial serves the same requests; `watch` hears of each. Raises `ConfigError`.
    """
    setup, trials = set_up(config), []

    def keeps(rate: float) -> bool:
        chosen = at_rate(config, rate)
        outcome = simulate(chosen, setup=setup, workload=workload_of(chosen))
        trials.append(Trial(rate, objectives.kept(outcome), outcome))
        if watch is not None:
            watch(trials[-1])
        return trials[-1].kept

    low, high = _enclose(keeps, first)
    while low and high - low > tolerance * low:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return Capacity(low, tuple(trials))


def _enclose(keeps: Callable[[float], bool], first: float) -> tuple[float, float]:
    """A rate that keeps the objectives and one that does not, a factor of two apart; (0, …) if all fail."""
    rate, kept = first, keeps(first)
    for _ in range(24):
        following = rate * 2 if kept else rate / 2
        if keeps(following) != kept:
            return (rate, following) if kept else (following, rate)
        rate = following
    if kept:
        raise ConfigError(f"the objectives are kept at {rate:g} requests per second still: the workload is too short to tell")
    return 0.0, rate
