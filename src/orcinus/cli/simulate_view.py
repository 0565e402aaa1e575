"""How the outcome of simulations looks: a heading, then a column for every run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from orcinus.observe.distribution import Distribution
from orcinus.sim.run import Outcome, Setup
from orcinus.workload.summary import Spread, Statistics

GIB = 2**30
LABEL, RUN = 23, 19  # characters of the first column, and of each run
LATENCIES = (
    ("TTFT", "ttft"),
    ("TBT", "tbt"),
    ("TPOT", "tpot"),
    ("E2E", "e2e"),
    ("E2E / token", "normalized_latency"),
    ("scheduling delay", "scheduling_delay"),
)


def heading(setup: Setup, stats: Statistics) -> str:
    """The cluster and the requests, before anything runs."""
    config, machine = setup.config, setup.machine
    devices = f"{config.replicas * machine.devices} x {machine.device}"
    layout = f"{machine.layout}, {config.replicas} replica{'' if config.replicas == 1 else 's'}"
    weights = "" if machine.weights is None else f"weights {machine.weights / GIB:.1f} GiB of each device; "
    rate = (
        "all at once or in a closed loop"
        if stats.rate is None
        else f"{stats.rate:.3g} per second, cv of gaps {stats.gap_cv:.2f}"
    )
    return "\n".join(
        (
            f"[bold]{machine.model}[/] on {devices} ({layout}), {machine.software}",
            f"{weights}K/V memory {machine.kv_tokens} tokens a replica",
            f"{stats.requests} requests, {rate}",
            f"prompt {_lengths(stats.prompt)}; output {_lengths(stats.output)}",
        )
    )


def _lengths(spread: Spread) -> str:
    return f"mean {spread.mean:.0f}, median {spread.median:.0f}, P90 {spread.p90:.0f}, std {spread.std:.0f}, max {spread.max}"


def print_tables(console: Console, names: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    """As many runs beside each other as the terminal is wide; a pipe gets them all."""
    fit = len(outcomes)
    if console.is_terminal:
        fit = max(1, (console.width - LABEL) // RUN)
    else:
        console = Console(width=LABEL + fit * max(RUN + 3, *(len(name) + 2 for name in names)), highlight=False)
    for first in range(0, len(outcomes), fit):
        console.print(table(names[first : first + fit], outcomes[first : first + fit]))


def table(names: Sequence[str], outcomes: Sequence[Outcome]) -> Table:
    """Metrics as rows, runs as columns."""
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    shown.add_column("", no_wrap=True)
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    done, used = _done(), _used()
    for label, value in done:
        _add(shown, label, [value(outcome) for outcome in outcomes])
    shown.add_row("", *("[dim] mean   p50   p99[/]" for _ in outcomes))
    for label, name in LATENCIES:
        shown.add_row(*_latency(label, name, outcomes))
    for label, value in used:
        _add(shown, label, [value(outcome) for outcome in outcomes])
    return shown


def _add(shown: Table, label: str, cells: Sequence[str]) -> None:
    """A row, unless nobody has anything to say in it."""
    if any(cells):
        shown.add_row(label, *cells)


Value = Callable[[Outcome], str]


def _done() -> list[tuple[str, Value]]:
    return [
        ("requests served", lambda o: str(o.metrics.served)),
        ("rejected", lambda o: _some(o.metrics.endings.total() - o.metrics.served)),
        ("seconds", lambda o: f"{o.metrics.span:.1f}"),
        ("requests/s", lambda o: _rate(o.metrics.served, o)),
        ("output tokens/s", lambda o: _rate(o.metrics.output_tokens, o)),
        ("total tokens/s", lambda o: _rate(o.metrics.prompt_tokens + o.metrics.output_tokens, o)),
    ]


def _used() -> list[tuple[str, Value]]:
    return [
        ("iterations", lambda o: str(o.metrics.iterations)),
        ("requests in a batch", lambda o: f"{o.metrics.batch_size.mean:.1f}"),
        ("tokens in a batch", lambda o: f"{o.metrics.batch_tokens.mean:.1f}"),
        ("slots used", lambda o: f"{o.metrics.batch_size.mean / o.metrics.limits.max_batch_size:.1%}"),
        ("budget used", lambda o: f"{o.metrics.batch_tokens.mean / (o.budget or o.metrics.limits.max_batch_tokens):.1%}"),
        *((f"K/V {kind}", partial(_kv, kind)) for kind in ("used", "reserved", "internal", "external", "idle")),
        ("prefix cache hits", lambda o: "" if o.prefix_hit_rate is None else f"{o.prefix_hit_rate:.1%}"),
        ("preemptions", lambda o: _some(o.preemptions)),
        ("stages busy", _stages),
        ("bubbles", lambda o: f"{o.bubble_share:.1%}" if len(o.stage_busy) > 1 else ""),
        ("bubbles a request, p50", lambda o: f"{o.bubbles.percentile(50):.3g} s" if o.bubbles.count else ""),
        ("fairness (Jain)", lambda o: f"{o.metrics.fairness:.3f}" if len(o.metrics.client_tokens) > 1 else ""),
        ("simulated in", lambda o: f"{o.wall_seconds:.1f} s"),
    ]


def _stages(outcome: Outcome) -> str:
    """Every stage, or, of many, the least and the most busy one."""
    busy = outcome.stage_busy
    shown = busy if len(busy) <= 4 else [min(busy), max(busy)]
    return (" " if len(busy) <= 4 else " to ").join(f"{share:.0%}" for share in shown)


def _kv(kind: str, outcome: Outcome) -> str:
    share = outcome.kv_shares[kind]
    return f"{share:.1%}" if share >= 0.0005 else ""


def _latency(label: str, name: str, outcomes: Sequence[Outcome]) -> list[str]:
    """A row: mean, median and 99th percentile of every run, all in the unit that suits the first of them."""
    found: list[Distribution] = [getattr(outcome.metrics, name) for outcome in outcomes]
    scale, unit = (1.0, "s") if found[0].mean >= 1 else (1e3, "ms")
    cells = [(each.mean, each.percentile(50), each.percentile(99)) for each in found]
    return [f"{label} ({unit})", *(" ".join(f"{_number(value * scale):>5}" for value in cell) for cell in cells)]


def _number(value: float) -> str:
    """Three digits, and never an exponent."""
    return "-" if math.isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rate(count: int, outcome: Outcome) -> str:
    return f"{count / outcome.metrics.span:.4g}" if outcome.metrics.span else "-"


def _some(count: int) -> str:
    """Nothing for none, so that a row of nothing is left out."""
    return str(count) if count else ""
