"""The highest request rate at which an SLO holds (Sarathi-Serve, section 5.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from orcinus.core.component_spec import with_option
from orcinus.core.slo import SLO
from orcinus.errors import ConfigError
from orcinus.observe.distribution import Distribution
from orcinus.observe.interval import Interval, median_interval
from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.config import SimulationConfig
from orcinus.sim.machine import SimulatedMachine
from orcinus.sim.outcome import Setup, SimulationOutcome
from orcinus.sim.simulate import by_seed, set_up, simulate, workload_of
from orcinus.sim.validity import LONG, MARGIN, ONE_SEED, of_machine, rounded_up, spent, too_short
from orcinus.workload.rates import NeverMissed, RateGrid
from orcinus.workload.rates import at_rate as spelled_at_rate
from orcinus.workload.summary import statistics
from orcinus.workload.workload import OWN_TIMES, Workload

METRICS = {"tbt.p99": "the P99 TBT", "ttft.p99": "the P99 TTFT", "scheduling_delay.p50": "the median scheduling delay"}
UNSEEN = 0.05  # largest overload that may stay unnoticed, as a share of the load


def percentiles(slo: SLO, metrics: MetricsObserver) -> dict[str, float]:
    """Seconds of every metric that the SLO bounds, such as `tbt.p99`."""
    found = {}
    for metric in slo.bounds:
        latency, percentile = _parts(metric)
        seen: Distribution = getattr(metrics, latency)
        found[metric] = 0.0 if latency == "tbt" and not seen.count else seen.percentile(percentile)  # one token each: no gaps
    return found


def keeps(slo: SLO, outcome: SimulationOutcome) -> bool:
    """Whether a simulation kept an SLO; false if it served no request."""
    return outcome.metrics.served > 0 and not slo.missed(percentiles(slo, outcome.metrics))


def is_lost(slo: SLO, metrics: MetricsObserver, size: Size) -> bool:
    """Whether an SLO is certainly missed: too many latencies exceed a bound."""
    for metric, seconds in slo.bounds.items():
        latency, percentile = _parts(metric)
        seen: Distribution = getattr(metrics, latency)
        allowed = (100 - percentile) / 100 * (size.gaps if latency == "tbt" else size.requests)
        if seen.count > allowed and seen.above(seconds) > allowed:
            return True
    return False


def unseen_delay(slo: SLO) -> float:
    """Growth of the wait, in seconds, that no bound would show.

    It is how much longer the last requests may wait than the first. Infinite if no bound limits it. A queue that grows evenly
    to d seconds has a median delay of d / 2.
    """
    found = [math.inf]
    for metric, seconds in slo.bounds.items():
        latency, percentile = _parts(metric)
        if latency != "tbt":
            found.append(2 * seconds if percentile == 50 else seconds)
    return min(found)


def _parts(metric: str) -> tuple[str, float]:
    """`tbt.p99` -> (tbt, 99)."""
    latency, _, percentile = metric.partition(".p")
    return latency, float(percentile)


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers of requests and gaps in a workload."""

    requests: int
    gaps: int  # between two tokens of an answer
    mean_tokens: float = 1.0  # of a request, prompt and answer


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate that was tried, with its outcome.

    The outcome ends when the trial was decided.
    """

    rate: float  # requests per second
    kept: bool
    outcome: SimulationOutcome


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate that kept the SLO (else 0), and all trials.

    With several seeds `rate` is the median over `runs`, one for each, and lies in the `interval`.
    """

    rate: float
    trials: tuple[Trial, ...]
    doubts: tuple[str, ...] = ()  # why it must not be believed
    missed: tuple[str, ...] = ()  # for a capacity of 0: objectives missed at the lowest rate, with the excess
    runs: tuple[Capacity, ...] = ()
    interval: Interval | None = None


def at_rate(config: SimulationConfig, rate: float) -> SimulationConfig:
    """The same requests at another rate in requests per second.

    A trace's own times are stretched. Raises `ConfigError`.
    """
    if config.process != OWN_TIMES:
        return replace(config, arrivals=spelled_at_rate(config.process, rate))
    scale = own_rate(replace(config, lengths=with_option(config.lengths, "scale", "1"), seed=0, seeds=1)) / rate
    return replace(config, lengths=with_option(config.lengths, "scale", repr(scale)))


@lru_cache(maxsize=16)
def own_rate(config: SimulationConfig) -> float:
    """Requests per second of the config's workload.

    Raises `ConfigError` if all arrive at once, or in a closed loop.
    """
    rate = statistics(workload_of(config)).rate
    if rate is None:
        raise ConfigError(f"the requests of {config.lengths!r} come at no rate that could be varied: give --arrivals")
    return rate


def find_capacity(
    config: SimulationConfig,
    slo: SLO,
    *,
    tolerance: float = 0.025,
    first: float = 1.0,
    watch: Callable[[Trial], None] | None = None,
) -> Capacity:
    """The capacity under an SLO, to within `tolerance`.

    Tries rates around `first` in growing steps until the answer is enclosed, then bisects. Every trial serves the same
    requests, and ends as soon as the SLO is certainly missed; `watch` hears of each. Raises `ConfigError`.
    """
    return find_capacities(config, (slo,), tolerance=tolerance, first=first, watch=watch)[0]


def find_capacities(
    config: SimulationConfig,
    slos: Sequence[SLO],
    *,
    tolerance: float = 0.025,
    first: float = 1.0,
    watch: Callable[[Trial], None] | None = None,
) -> list[Capacity]:
    """The capacities under several SLOs, in their order; they share trials."""
    searches = [_Search(one, tolerance, first, watch) for one in by_seed(config)]
    return [together([search.capacity(each) for search in searches]) for each in slos]


def capacity_record(found: Capacity) -> dict[str, Any]:
    """A capacity for JSON: its trials by rate, and its seeds."""
    record: dict[str, Any] = {"rate": found.rate}
    if found.interval is not None:
        record |= {"low": found.interval.low, "high": found.interval.high, "level": found.interval.level}
        record["rates"] = [one.rate for one in found.runs]
    trials = [_trial_record(trial) for trial in sorted(found.trials, key=_rate)]
    cautions = [] if found.runs else [ONE_SEED]
    return record | {"cautions": cautions, "doubts": list(found.doubts), "missed": list(found.missed), "trials": trials}


def _trial_record(trial: Trial) -> dict[str, Any]:
    metrics = trial.outcome.metrics
    seconds = {
        "p99_tbt": metrics.tbt.percentile(99),
        "p99_ttft": metrics.ttft.percentile(99),
        "median_delay": metrics.scheduling_delay.percentile(50),
    }
    about = {"rate": trial.rate, "kept": trial.kept, "seed": trial.outcome.setup.config.seed, "requests": metrics.served}
    return about | {name: None if math.isnan(value) else value for name, value in seconds.items()}


def together(runs: Sequence[Capacity]) -> Capacity:
    """The capacities of several seeds as one."""
    if len(runs) == 1:
        return runs[0]
    interval = median_interval([one.rate for one in runs])
    by_rate = sorted(runs, key=lambda one: one.rate, reverse=True)  # the highest rate needs most requests
    doubts, missed = over_runs([one.doubts for one in by_rate]), over_runs([one.missed for one in by_rate])
    trials = tuple(trial for one in runs for trial in one.trials)
    return Capacity(interval.median, trials, doubts, missed, tuple(runs), interval)


def over_runs(said: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The first seed's lines, with the number of seeds that have some.

    Seeds without lines are skipped.
    """
    having = [lines for lines in said if lines]
    return tuple(f"{line} (with {len(having)} of {len(said)} seeds)" for line in having[0]) if having else ()


class _Search:
    """Simulations at a grid's rates, each run once for all SLOs."""

    def __init__(self, config: SimulationConfig, tolerance: float, first: float, watch: Callable[[Trial], None] | None) -> None:
        self._config, self._grid, self._watch = config, RateGrid(first, tolerance), watch
        self._setup: Setup = set_up(config)
        self._size = _size(workload_of(at_rate(config, first)), self._setup.machine)
        self._known: dict[int, SimulationOutcome] = {}
        self._step = 0  # where the next search starts

    def capacity(self, slo: SLO) -> Capacity:
        trials: list[Trial] = []

        def keeps_at(step: int) -> bool:
            outcome = self._outcome(step, slo)
            trials.append(Trial(self._grid.rate(step), not outcome.ended_early and keeps(slo, outcome), outcome))
            if self._watch is not None:
                self._watch(trials[-1])
            return trials[-1].kept

        try:
            found = self._grid.highest(keeps_at, self._step)
        except NeverMissed as error:
            raise NeverMissed(error.rate, self._advice(trials[-1], slo)) from None
        if found is None:
            return Capacity(
                0.0, tuple(trials), tuple(of_machine(self._setup.machine)), self._missed(slo, min(trials, key=_rate))
            )
        self._step, rate = found, self._grid.rate(found)
        best = next(trial for trial in reversed(trials) if trial.rate == rate)
        return Capacity(rate, tuple(trials), (*of_machine(self._setup.machine), *self._unseen(best, slo)))

    def _missed(self, slo: SLO, lowest: Trial) -> tuple[str, ...]:
        """Bounds missed at the lowest rate, judged by all its requests."""
        outcome = lowest.outcome
        if outcome.ended_early:
            config = at_rate(self._config, lowest.rate)
            outcome = simulate(config, setup=self._setup, workload=workload_of(config))
        return tuple(
            f"at {lowest.rate:.3g} requests/s {miss.describe('{:.4g}'.format, METRICS.get(miss.metric, ''))}"
            for miss in slo.missed(percentiles(slo, outcome.metrics))
        )

    def _unseen(self, best: Trial, slo: SLO) -> tuple[str, ...]:
        """Why a rate may be too high although it kept the SLO."""
        outcome, window = best.outcome, best.outcome.metrics.window
        overload = unseen_delay(slo) / window if window else math.inf
        if not too_short(outcome) and overload <= UNSEEN:
            return ()
        hidden = f", and a load {overload:.0%} too high would miss no objective" if overload < math.inf else ""
        return (
            f"{best.rate:.3g} requests/s is no capacity: {outcome.metrics.submitted} requests come within {window:.3g} s, one "
            f"takes {spent(outcome.metrics):.3g} s{hidden}: {self._advice(best, slo)}",
        )

    def _advice(self, trial: Trial, slo: SLO) -> str:
        """Advises a number of requests that arrive over a long enough time.

        The rate is at most that of the machine, by Little's law: requests present at a time / seconds of each.
        """
        machine, metrics = self._setup.machine, trial.outcome.metrics
        at_a_time = min(machine.limits.max_batch_size, machine.kv_tokens / self._size.mean_tokens) * self._config.replicas
        rate = min(trial.rate, at_a_time / spent(metrics)) if spent(metrics) > 0 else trial.rate
        seconds = unseen_delay(slo) / UNSEEN if unseen_delay(slo) < math.inf else 0.0
        return f"give --requests {rounded_up(MARGIN * max(LONG * at_a_time, rate * seconds))}"

    def _outcome(self, step: int, slo: SLO) -> SimulationOutcome:
        """The outcome at a rate; it may end once the SLO fails."""
        known = self._known.get(step)
        if known is None or (known.ended_early and not is_lost(slo, known.metrics, self._size)):
            config = at_rate(self._config, self._grid.rate(step))
            known = self._known[step] = simulate(
                config,
                setup=self._setup,
                workload=workload_of(config),
                over=lambda metrics: is_lost(slo, metrics, self._size),
            )
        return known


def _rate(trial: Trial) -> float:
    return trial.rate


def _size(workload: Workload, machine: SimulatedMachine) -> Size:
    """The size of a workload.

    Raises `ConfigError` if a request can never be served.
    """
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    most = min(machine.limits.max_model_len, machine.kv_tokens)
    answers, tokens, too_long = [], 0, 0
    for arrival in workload.untimed():
        answers.append(arrival.output_tokens)
        tokens += arrival.total_tokens
        too_long += arrival.prompt_tokens + arrival.asked_tokens > most
    if too_long:
        raise ConfigError(
            f"{too_long} of {len(answers)} requests are longer than the {most} tokens allowed here, and would be "
            f"rejected: leave them out with --max-total {most}, or raise --max-model-len"
        )
    return Size(len(answers), sum(answers) - len(answers), tokens / len(answers))
