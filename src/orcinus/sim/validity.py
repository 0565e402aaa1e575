"""Validity of a simulation's outcome: doubts and cautions."""

from __future__ import annotations

import math

from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.machine import SimulatedMachine
from orcinus.sim.outcome import SimulationOutcome

LONG = 10  # arrivals must last this many request durations, so that start and end matter little
MARGIN = 1.2  # factor on recommendations: other requests differ a little from those seen
SERVED = 0.8  # share of the arrival rate: if less is served, the queue keeps growing
TAIL = 100  # requests from which the P99 is not the largest value
ENOUGH = 5  # seeds whose range holds the median with more than 90 %
ONE_SEED = f"one seed does not say how much of this is chance: --seeds {ENOUGH} does"
DIGITS = 2  # digits of a recommended number of requests


def doubts(outcome: SimulationOutcome) -> list[str]:
    """Why an outcome must not be believed, a line each.

    With several seeds a reason is that of the seed which needs most requests.
    """
    found = of_machine(outcome.setup.machine)
    runs = sorted(outcome.runs or (outcome,), key=enough, reverse=True)
    for reason in REASONS:
        said = [text for text in map(reason, runs) if text]
        if said:
            found.append(said[0] if len(runs) == 1 else f"{said[0]} (with {len(said)} of {len(runs)} seeds)")
    return found


def of_machine(machine: SimulatedMachine) -> list[str]:
    """The doubts about a machine's calibration."""
    return [f"the calibration is in doubt: {doubt}" for doubt in machine.doubts]


def cautions(outcome: SimulationOutcome) -> list[str]:
    """Cautions about sound numbers, a line each."""
    found = []
    served = min(one.metrics.served for one in outcome.runs or (outcome,))
    if 0 < served < TAIL:
        found.append(f"the P99 of {served} requests is the largest of them: give {TAIL} --requests at least")
    if not outcome.runs:
        found.append(ONE_SEED)
    elif _all_equal(outcome):
        found.append(f"all {len(outcome.runs)} seeds give equal results: nothing in this workload is random")
    return found


def spent(metrics: MetricsObserver) -> float:
    """Mean seconds from a request's first iteration to its end."""
    return metrics.e2e.mean - metrics.scheduling_delay.mean


def enough(outcome: SimulationOutcome) -> int:
    """A sufficient number of requests at this rate; 0 if unknown."""
    metrics = outcome.metrics
    return rounded_up(MARGIN * LONG * spent(metrics) * metrics.submitted / metrics.window) if metrics.window else 0


def rounded_up(count: float) -> int:
    """The count rounded up to two digits; 0 if it is infinite."""
    if not 0 < count < math.inf:
        return 0
    digits: int = 10 ** max(0, math.floor(math.log10(count)) + 1 - DIGITS)
    return math.ceil(count / digits) * digits


def too_short(outcome: SimulationOutcome) -> bool:
    """Whether most of the run's arrivals fall into its start and end."""
    metrics = outcome.metrics
    return not outcome.at_once and metrics.served > 0 and metrics.window < LONG * spent(metrics)


def _nothing_served(outcome: SimulationOutcome) -> str:
    return "" if outcome.metrics.served else "no request was served"


def _short(outcome: SimulationOutcome) -> str:
    if not too_short(outcome):
        return ""
    metrics, needed = outcome.metrics, enough(outcome)
    advice = f"give --requests {needed}" if needed else "give more --requests"
    return (
        f"the workload is too short: requests come for {metrics.window:.3g} s, and one takes {spent(metrics):.3g} s, so that "
        f"the run is mostly start and end: {advice}"
    )


def _overloaded(outcome: SimulationOutcome) -> str:
    metrics = outcome.metrics
    if outcome.at_once or too_short(outcome) or not metrics.served or metrics.window >= SERVED * metrics.span:
        return ""
    came, ended = metrics.submitted / metrics.window, metrics.served / metrics.span
    return (
        f"{came:.3g} requests/s come and {ended:.3g} are served: the queue keeps growing, so latencies depend on the "
        "number of --requests"
    )


def _turned_away(outcome: SimulationOutcome) -> str:
    total, served = outcome.metrics.endings.total(), outcome.metrics.served
    if total == served or not served:
        return ""
    return (
        f"{total - served} of {total} requests were rejected as too long: they have no latencies, which makes the rest look "
        "better: leave them out with --max-total, or raise --max-model-len"
    )


REASONS = (_nothing_served, _short, _overloaded, _turned_away)


def _all_equal(outcome: SimulationOutcome) -> bool:
    """Whether all seeds gave equal results."""
    return all(each.low == each.high for name, each in outcome.intervals.items() if name != "wall_seconds")
