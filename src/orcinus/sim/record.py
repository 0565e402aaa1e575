"""The outcome of a simulation as plain numbers, for JSON and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from orcinus.core.request import Finish
from orcinus.observe.interval import Interval, median_interval
from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.config import SimulationConfig
from orcinus.sim.outcome import SimulationOutcome
from orcinus.sim.validity import cautions, doubts

LATENCIES = ("ttft", "tbt", "tpot", "e2e", "normalized_latency", "scheduling_delay")
UNITS = {  # of the numbers of a record
    **dict.fromkeys(("requests", "served", "rejected"), "requests"),
    "seconds": "s",
    "iterations": "iterations",
    "request_throughput": "requests/s",
    **dict.fromkeys(("prompt_throughput", "output_throughput", "total_throughput"), "tokens/s"),
    "mean_batch_size": "requests",
    "mean_batch_tokens": "tokens",
    **dict.fromkeys(("slot_use", "budget_use"), "share"),
    "fairness": "",  # Jain's index
    "preemptions": "preemptions",
    **dict.fromkeys(("bubble_share", "prefix_hit_rate"), "share"),
    "kv_tokens": "tokens",
    "cost_per_million_output_tokens": "",  # in the currency of the price
    "wall_seconds": "s",
}
SPREAD = ("p99", "p50", "p90", "p95", "mean", "max")
METRICS: dict[str, tuple[str, ...]] = {  # the numbers of a record, with their parts
    **dict.fromkeys(UNITS, ()),
    **dict.fromkeys((*LATENCIES, "bubbles"), SPREAD),
    "kv": ("used", "reserved", "internal", "external", "idle"),
}
COLUMNS = tuple(f"{name}.{part}" if part else name for name, parts in METRICS.items() for part in parts or ("",))
OF_A_TOKEN = "normalized_latency"
NAMES = {  # of metrics, in words
    "ttft": "time to first token",
    "tbt": "time between tokens",
    "tpot": "time per output token",
    "e2e": "end-to-end latency",
    OF_A_TOKEN: "latency per generated token",
    "kv": "K/V memory",
    "kv_tokens": "K/V memory",
}


def unit_of(metric: str) -> str:
    """A metric's unit: `s` for `ttft.p99`; empty without one."""
    name = metric.split(".")[0]
    return UNITS.get(name, "share" if name == "kv" else "s/token" if name == OF_A_TOKEN else "s")


def label_of(metric: str) -> str:
    """A metric in words, with its unit, as an axis label."""
    name, _, part = metric.partition(".")
    words, unit = NAMES.get(name, name.replace("_", " ")), unit_of(metric)
    statistic = part.upper() if part[1:].isdigit() else part
    return (f"{words}, {statistic}" if part else words) + (f" ({unit})" if unit else "")


def metric_of(record: Mapping[str, Any], name: str) -> float | None:
    """The number at a dotted name in a record; None without one."""
    value: Any = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def config_record(config: SimulationConfig) -> dict[str, Any]:
    """A config for JSON, with the default arrivals filled in."""
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
    return asked | {"arrivals": config.process}


def metrics_record(metrics: MetricsObserver, budget: int | None = None) -> dict[str, Any]:
    """Metrics for JSON: seconds, tokens and shares; None for NaN.

    `budget` is the policy's own limit of tokens in an iteration, if it has one.
    """
    span, limits = metrics.span, metrics.limits
    record: dict[str, Any] = {
        "requests": metrics.endings.total(),
        "served": metrics.served,
        "rejected": metrics.endings[Finish.REJECTED],
        "endings": {reason.value: count for reason, count in metrics.endings.items()},
        "seconds": span,
        "iterations": metrics.iterations,
        "request_throughput": metrics.served / span if span else None,
        "prompt_throughput": metrics.prompt_tokens / span if span else None,
        "output_throughput": metrics.output_tokens / span if span else None,
        "total_throughput": (metrics.prompt_tokens + metrics.output_tokens) / span if span else None,
        "mean_batch_size": metrics.batch_size.mean,
        "mean_batch_tokens": metrics.batch_tokens.mean,
        "slot_use": metrics.batch_size.mean / limits.max_batch_size,
        "budget_use": metrics.batch_tokens.mean / (budget or limits.max_batch_tokens),
        "fairness": metrics.fairness,
        "clients": len(metrics.client_tokens),
        **{name: getattr(metrics, name).summary() for name in LATENCIES},
    }
    return {key: finite(value) for key, value in record.items()}


def outcome_record(outcome: SimulationOutcome) -> dict[str, Any]:
    """An outcome for JSON; with several seeds, medians and their intervals."""
    if not outcome.runs:
        return _one_record(outcome) | _evidence(outcome)
    records = [_one_record(one) for one in outcome.runs]
    seeds = {"seeds": [one.setup.config.seed for one in outcome.runs]}
    found: dict[str, Any] = _medians(records)
    return found | seeds | {"intervals": intervals_record(outcome.intervals)} | _evidence(outcome)


def _evidence(outcome: SimulationOutcome) -> dict[str, Any]:
    """The costs' provenance, and doubts, cautions and notes about the numbers."""
    origins = [asdict(origin) for origin in outcome.setup.machine.origins]
    said = {"doubts": doubts(outcome), "cautions": cautions(outcome), "notes": list(outcome.notes)}
    return {"costs": origins, **said}


def _one_record(outcome: SimulationOutcome) -> dict[str, Any]:
    setup, machine = outcome.setup, outcome.setup.machine
    return {
        "model": machine.model,
        "devices": f"{setup.config.replicas * machine.devices} x {machine.device}",
        "kv_tokens": machine.kv_tokens,
        "weights_bytes_per_device": machine.weights,
        **metrics_record(outcome.metrics, outcome.budget),
        "cost_per_million_output_tokens": outcome.cost_per_million,
        "prefix_hit_rate": outcome.prefix_hit_rate,
        "preemptions": outcome.preemptions,
        "kv": outcome.kv_shares,
        "stage_busy": outcome.stage_busy,
        "bubble_share": outcome.bubble_share,
        "bubbles": finite(outcome.bubbles.summary()) if outcome.bubbles.count else None,
        "wall_seconds": outcome.wall_seconds,
    }


def over_seeds(runs: Sequence[SimulationOutcome]) -> dict[str, Interval]:
    """Medians and intervals over seeds, by the metrics' dotted names."""
    records = [_one_record(one) for one in runs]
    found = {name: [metric_of(record, name) for record in records] for name in COLUMNS}
    return {
        name: median_interval([value for value in values if value is not None])
        for name, values in found.items()
        if None not in values
    }


def intervals_record(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """Intervals for JSON."""
    return {name: {"low": each.low, "high": each.high, "level": each.level} for name, each in intervals.items()}


def _medians(values: Sequence[Any]) -> Any:
    """Records of several seeds as one.

    Numbers become medians; other values are the first record's.
    """
    first = values[0]
    if isinstance(first, dict):
        return {key: _medians([value[key] for value in values]) for key in _shared(values)}
    if isinstance(first, list):
        return [_medians(column) for column in zip(*values, strict=True)]
    numbers = [value for value in values if isinstance(value, int | float)]
    return median(numbers) if numbers else first


def _shared(values: Sequence[Any]) -> Iterator[str]:
    """Keys that all records have, in the order of the first."""
    return (key for key in values[0] if all(isinstance(value, dict) and key in value for value in values))


def finite(value: Any) -> Any:
    """The number, or None for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
