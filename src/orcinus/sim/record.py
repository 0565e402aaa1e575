"""The outcome of a simulation as plain numbers, for JSON, tables and sweeps."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orcinus.core.request import Finish
from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.config import SimulationConfig
from orcinus.sim.run import Outcome

LATENCIES = ("ttft", "tbt", "tpot", "e2e", "normalized_latency", "scheduling_delay")
NUMBERS = (
    *("requests", "rejected", "seconds", "iterations", "request_throughput", "prompt_throughput", "output_throughput"),
    *("total_throughput", "mean_batch_size", "mean_batch_tokens", "slot_use", "budget_use", "fairness", "preemptions"),
    *("bubble_share", "prefix_hit_rate", "kv_tokens", "wall_seconds"),
)
SPREAD = ("p99", "p50", "p90", "p95", "mean", "max")
METRICS: dict[str, tuple[str, ...]] = {  # the numbers of a record, and the parts of those that have some
    **dict.fromkeys(NUMBERS, ()),
    **dict.fromkeys((*LATENCIES, "bubbles"), SPREAD),
    "kv": ("used", "reserved", "internal", "external", "idle"),
}


def config_record(config: SimulationConfig) -> dict[str, Any]:
    """A config as JSON can hold it."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def metrics_record(metrics: MetricsObserver, budget: int | None = None) -> dict[str, Any]:
    """What a `MetricsObserver` saw. Seconds, tokens and shares; None where there is nothing to say.

    `budget` is the policy's own limit of tokens in an iteration, if it has one.
    """
    span, limits = metrics.span, metrics.limits
    record: dict[str, Any] = {
        "requests": metrics.endings.total(),
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
        **{name: getattr(metrics, name).summary() for name in LATENCIES},
    }
    return {key: _finite(value) for key, value in record.items()}


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """The config's part that was decided, and what came of it."""
    setup, machine = outcome.setup, outcome.setup.machine
    return {
        "model": machine.model,
        "devices": f"{setup.config.replicas * machine.devices} x {machine.device}",
        "kv_tokens": machine.kv_tokens,
        "weights_bytes_per_device": machine.weights,
        **metrics_record(outcome.metrics, outcome.budget),
        "prefix_hit_rate": outcome.prefix_hit_rate,
        "preemptions": outcome.preemptions,
        "kv": outcome.kv_shares,
        "stage_busy": outcome.stage_busy,
        "bubble_share": outcome.bubble_share,
        "bubbles": _finite(outcome.bubbles.summary()) if outcome.bubbles.count else None,
        "wall_seconds": outcome.wall_seconds,
    }


def _finite(value: Any) -> Any:
    """NaN and infinity, which JSON lacks, as None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
