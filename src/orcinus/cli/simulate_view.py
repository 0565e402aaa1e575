"""Outcomes of simulations in a terminal, a column for every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from orcinus.cli.tidy import column
from orcinus.cost.provenance import format_provenance
from orcinus.errors import plural
from orcinus.observe.interval import median_interval
from orcinus.sim.outcome import Setup, SimulationOutcome
from orcinus.sim.record import COLUMNS, metric_of, outcome_record, unit_of
from orcinus.sim.validity import ENOUGH
from orcinus.workload.summary import Spread, Statistics

Record = Mapping[str, Any]  # what `outcome_record` says
Value = Callable[[Record], str]
GIB = 2**30
LABEL, RUN = 27, 19  # characters of the first column, and of each run
INTERVAL = 27  # characters of a run with the interval of a median
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
    layout = f"{machine.layout}, {plural(config.replicas, 'replica')}"
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
            f"{plural(stats.requests, 'request')}, {rate}",
            f"prompt {_lengths(stats.prompt)}; output {_lengths(stats.output)}",
        )
    )


def costs(setups: Sequence[Setup]) -> list[str]:
    """The origins of the costs of each different machine."""
    said = {format_provenance(setup.machine.origins): setup.machine for setup in setups}
    return list(said) if len(said) == 1 else [f"{machine.device}, {machine.software}: {line}" for line, machine in said.items()]


def over_seeds(seeds: int) -> list[str]:
    """The meaning of the intervals, if there are any."""
    if seeds == 1:
        return []
    level = _level(seeds)
    more = "" if level >= 0.9 else f"; with {ENOUGH} seeds it is more than 90 %"
    return [f"medians of {seeds} seeds; the true ones lie within their intervals with {level:.0%}{more}"]


def legend(varies: Sequence[str], seeds: int) -> str:
    """A legend's title: what varies, and what the bands are."""
    bands = [f"bands: {_level(seeds):.0%} intervals of medians over {seeds} seeds"] if seeds > 1 else []
    return "; ".join([*([", ".join(varies)] if varies else []), *bands])


def _level(seeds: int) -> float:
    return median_interval([float(number) for number in range(seeds)]).level


def rows(names: Sequence[str], outcomes: Sequence[SimulationOutcome]) -> list[dict[str, Any]]:
    """A row for each run and seed: all metrics, with units."""
    return [
        {"run": name, "seed": one.setup.config.seed, **metric_columns(outcome_record(one))}
        for name, outcome in zip(names, outcomes, strict=True)
        for one in outcome.runs or (outcome,)
    ]


def metric_columns(record: Mapping[str, Any]) -> dict[str, float | None]:
    """All metrics of a record as columns, with intervals over seeds."""
    found: dict[str, float | None] = {}
    for metric in COLUMNS:
        name, interval = column(metric, unit_of(metric)), record.get("intervals", {}).get(metric)
        found[name] = metric_of(record, metric)
        if interval is not None:
            found |= {f"{name}_low": interval["low"], f"{name}_high": interval["high"]}
    return found


def _lengths(spread: Spread) -> str:
    return f"mean {spread.mean:.0f}, median {spread.median:.0f}, P90 {spread.p90:.0f}, std {spread.std:.0f}, max {spread.max}"


def print_tables(console: Console, records: Mapping[str, Record]) -> None:
    """Print runs side by side, as many as the terminal is wide."""
    names = list(records)
    fit = len(names)
    width = max(RUN, INTERVAL) if any("intervals" in record for record in records.values()) else RUN
    if console.is_terminal:
        fit = max(1, (console.width - LABEL) // width)
    else:
        console = Console(width=LABEL + fit * max(width + 3, *(len(name) + 2 for name in names)), highlight=False)
    for first in range(0, len(names), fit):
        shown = {name: records[name] for name in names[first : first + fit]}
        console.print(table(shown))
        if any("intervals" in record for record in shown.values()):
            console.print("", intervals_table(shown))


def table(records: Mapping[str, Record]) -> Table:
    """Metrics as rows, runs as columns; with several seeds, medians over them."""
    shown = _columns(list(records))
    runs = list(records.values())
    for label, value in DONE:
        _add(shown, label, [value(record) for record in runs])
    shown.add_row("", *("[dim] mean   p50   p99[/]" for _ in runs))
    for label, name in LATENCIES:
        shown.add_row(*_latency(label, name, runs))
    for label, value in USED:
        _add(shown, label, [value(record) for record in runs])
    return shown


def intervals_table(records: Mapping[str, Record]) -> Table:
    """Medians over seeds with their intervals, for the main metrics."""
    shown = _columns(list(records))
    runs = list(records.values())
    shown.add_row("[dim]over seeds[/]", *("[dim]median (interval)[/]" for _ in runs))
    for label, name, scale in COMPARED:
        _add(shown, label, [_interval(record, name, scale) for record in runs])
    return shown


def _columns(names: Sequence[str]) -> Table:
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    shown.add_column("", no_wrap=True)
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    return shown


def _add(shown: Table, label: str, cells: Sequence[str]) -> None:
    """Add a row, unless all of its cells are empty."""
    if any(cells):
        shown.add_row(label, *cells)


def _interval(record: Record, name: str, scale: float) -> str:
    median, found = metric_of(record, name), record.get("intervals", {}).get(name)
    if median is None:
        return ""
    ends = "" if found is None else f" ({_number(found['low'] * scale)} to {_number(found['high'] * scale)})"
    return f"{_number(median * scale)}{ends}"


def _kv(kind: str, record: Record) -> str:
    share: float = record["kv"][kind]
    return f"{share:.1%}" if share >= 0.0005 else ""


def _stages(record: Record) -> str:
    """Every stage, or of many the least and most busy ones."""
    busy = record["stage_busy"]
    shown = busy if len(busy) <= 4 else [min(busy), max(busy)]
    return (" " if len(busy) <= 4 else " to ").join(f"{share:.0%}" for share in shown)


def _latency(label: str, name: str, records: Sequence[Record]) -> list[str]:
    """Add rows of mean, median and P99, in one unit."""
    scale, unit = (1.0, "s") if (metric_of(records[0], f"{name}.mean") or 0) >= 1 else (1e3, "ms")
    cells = [[metric_of(record, f"{name}.{part}") for part in ("mean", "p50", "p99")] for record in records]
    return [f"{label} ({unit})", *(" ".join(f"{_number(value, scale):>5}" for value in cell) for cell in cells)]


def _number(value: float | None, scale: float = 1.0) -> str:
    """Three digits, and never an exponent."""
    if value is None:
        return "-"
    return f"{value * scale:.0f}" if value * scale >= 100 else f"{value * scale:.3g}"


def _written(name: str, form: str) -> Value:
    """A number of a record in this form; empty if missing."""

    def write(record: Record) -> str:
        value = metric_of(record, name)
        return "" if value is None else format(value, form)

    return write


def _some(name: str) -> Value:
    """A metric; empty at 0, so that empty rows are left out."""
    return lambda record: f"{count:g}" if (count := metric_of(record, name)) else ""


DONE: Sequence[tuple[str, Value]] = (
    ("requests served", _written("served", "g")),
    ("not served", lambda record: _some("lost")({"lost": record["requests"] - record["served"]})),
    ("seconds", _written("seconds", ".1f")),
    ("requests/s", _written("request_throughput", ".4g")),
    ("output tokens/s", _written("output_throughput", ".4g")),
    ("total tokens/s", _written("total_throughput", ".4g")),
    ("cost of 1M output tokens", _written("cost_per_million_output_tokens", ".4g")),
)
USED: Sequence[tuple[str, Value]] = (
    ("iterations", _written("iterations", ".0f")),
    ("requests in a batch", _written("mean_batch_size", ".1f")),
    ("tokens in a batch", _written("mean_batch_tokens", ".1f")),
    ("slots used", _written("slot_use", ".1%")),
    ("budget used", _written("budget_use", ".1%")),
    *((f"K/V {kind}", partial(_kv, kind)) for kind in ("used", "reserved", "internal", "external", "idle")),
    ("prefix cache hits", _written("prefix_hit_rate", ".1%")),
    ("preemptions", _some("preemptions")),
    ("stages busy", _stages),
    ("bubbles", lambda record: f"{record['bubble_share']:.1%}" if len(record["stage_busy"]) > 1 else ""),
    ("bubbles a request, p50", lambda record: _written("bubbles.p50", ".3g")(record) + (" s" if record["bubbles"] else "")),
    ("fairness (Jain)", lambda record: _written("fairness", ".3f")(record) if record["clients"] > 1 else ""),
    ("simulated in", lambda record: f"{record['wall_seconds']:.1f} s"),
)
COMPARED = (
    *((f"{label}/s", f"{name}_throughput", 1.0) for label, name in (("requests", "request"), ("output tokens", "output"))),
    *((f"{label} {part} (ms)", f"{name}.{part}", 1e3) for label, name in LATENCIES[:3] for part in ("p50", "p99")),
    *((f"E2E {part} (s)", f"e2e.{part}", 1.0) for part in ("p50", "p99")),
    *((f"scheduling delay {part} (ms)", f"scheduling_delay.{part}", 1e3) for part in ("p50", "p99")),
)
