"""The highest request rate at which promises about latency are kept (Sarathi-Serve, section 5.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orcinus.errors import ConfigError
from orcinus.observe.distribution import Distribution
from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.config import SimulationConfig
from orcinus.sim.machine import Machine
from orcinus.sim.run import Outcome, Setup, set_up, simulate, workload_of
from orcinus.workload.rates import RateGrid
from orcinus.workload.rates import at_rate as spelled_at_rate
from orcinus.workload.workload import Workload


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

    def lost(self, metrics: MetricsObserver, size: Size) -> bool:
        """Whether they cannot be kept any more, whatever follows: too many of all that there can be are late already."""
        return (
            _too_many(metrics.tbt, self.p99_tbt, 0.01 * size.gaps)
            or _too_many(metrics.ttft, self.p99_ttft, 0.01 * size.requests)
            or _too_many(metrics.scheduling_delay, self.median_delay, 0.5 * size.requests)
        )


def _too_many(seen: Distribution, limit: float | None, allowed: float) -> bool:
    return limit is not None and seen.count > allowed and seen.above(limit) > allowed


@dataclass(frozen=True, slots=True)
class Size:
    """What there is in a workload to be late."""

    requests: int
    gaps: int  # between two tokens of an answer


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate that was tried. The outcome of a lost one covers what had happened when that was certain."""

    rate: float  # requests per second
    kept: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate that was seen to keep the objectives, 0 if none; and all trials in order."""

    rate: float
    trials: tuple[Trial, ...]


def at_rate(config: SimulationConfig, rate: float) -> SimulationConfig:
    """The same requests at another rate. Raises `ConfigError`."""
    return replace(config, arrivals=spelled_at_rate(config.arrivals, rate))


def find_capacity(
    config: SimulationConfig,
    objectives: Objectives,
    *,
    tolerance: float = 0.025,
    first: float = 1.0,
    watch: Callable[[Trial], None] | None = None,
) -> Capacity:
    """Try rates around `first` in growing strides until the answer is enclosed, then bisect to within `tolerance`.

    Every trial serves the same requests, and ends when its objectives are certainly lost; `watch` hears of each. Raises
    `ConfigError`.
    """
    return find_capacities(config, (objectives,), tolerance=tolerance, first=first, watch=watch)[0]


def find_capacities(
    config: SimulationConfig,
    objectives: Sequence[Objectives],
    *,
    tolerance: float = 0.025,
    first: float = 1.0,
    watch: Callable[[Trial], None] | None = None,
) -> list[Capacity]:
    """The same for several objectives, in their order. A trial that says something about several of them is made once."""
    search = _Search(config, tolerance, first, watch)
    return [search.capacity(each) for each in objectives]


class _Search:
    """Simulations at the rates of a grid, each made once whatever objectives ask for it."""

    def __init__(self, config: SimulationConfig, tolerance: float, first: float, watch: Callable[[Trial], None] | None) -> None:
        self._config, self._grid, self._watch = config, RateGrid(first, tolerance), watch
        self._setup: Setup = set_up(config)
        self._size = _size(workload_of(at_rate(config, first)), self._setup.machine)
        self._known: dict[int, Outcome] = {}
        self._step = 0  # where the next search starts

    def capacity(self, objectives: Objectives) -> Capacity:
        trials: list[Trial] = []

        def keeps(step: int) -> bool:
            outcome = self._outcome(step, objectives)
            trials.append(Trial(self._grid.rate(step), not outcome.ended_early and objectives.kept(outcome), outcome))
            if self._watch is not None:
                self._watch(trials[-1])
            return trials[-1].kept

        found = self._grid.highest(keeps, self._step)
        self._step = self._step if found is None else found
        return Capacity(0.0 if found is None else self._grid.rate(found), tuple(trials))

    def _outcome(self, step: int, objectives: Objectives) -> Outcome:
        """What happens at this rate, at least until the objectives are lost."""
        known = self._known.get(step)
        if known is None or (known.ended_early and not objectives.lost(known.metrics, self._size)):
            config = at_rate(self._config, self._grid.rate(step))
            known = self._known[step] = simulate(
                config,
                setup=self._setup,
                workload=workload_of(config),
                over=lambda metrics: objectives.lost(metrics, self._size),
            )
        return known


def _size(workload: Workload, machine: Machine) -> Size:
    """Raises `ConfigError` if some could never be served: a rate at which requests are turned away keeps no promise."""
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    most = min(machine.limits.max_model_len, machine.kv_tokens)
    answers, too_long = [], 0
    for arrival in workload.untimed():
        answers.append(arrival.output_tokens)
        too_long += arrival.prompt_tokens + arrival.asked_tokens > most
    if too_long:
        raise ConfigError(
            f"{too_long} of {len(answers)} requests are longer than the {most} tokens that one may have here, and would be "
            f"turned away: leave them out with --max-total {most}, or raise --max-model-len"
        )
    return Size(len(answers), sum(answers) - len(answers))
