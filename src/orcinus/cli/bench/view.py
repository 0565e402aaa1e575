"""Measured sides in a terminal: medians, intervals, ratios to the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orcinus.bench.compare import overall
from orcinus.bench.formatting import digits
from orcinus.bench.measure import LATENCIES, PARTS
from orcinus.bench.ranking import RankingReason, rank
from orcinus.bench.result import Result
from orcinus.bench.summary import Summary, summarize
from orcinus.observe.interval import Interval

RATES = (
    ("requests", "request_throughput"),
    ("input tokens", "prompt_throughput"),
    ("output tokens", "output_throughput"),
    ("total tokens", "total_throughput"),
    ("goodput", "goodput"),
)
COUNTS = (
    ("iterations", "iterations"),
    ("slot use", "slot_use"),
    ("preemptions", "preemptions"),
    ("prefix hits", "prefix_hit_rate"),
    ("not served", "not_served"),
    ("refused", "refused"),
    ("promises kept", "promises_kept"),
)
SHARES = ("slot_use", "prefix_hit_rate", "refused", "promises_kept")


def print_sides(console: Console, result: Result, brief: bool) -> None:
    """The tables of sides that all did the same work."""
    found = summarize(result.sides, result.goodput_slo)
    sound = any(summary.values for summary in found)
    if not sound:
        found = summarize(result.sides, result.goodput_slo, invalid_too=True)
        if not any(summary.values for summary in found):
            return
        console.print("[bold red]INVALID:[/] these figures must not be quoted, for the reasons below.", "")
    console.print(_throughput(found, brief), "")
    if any(summary.median(name) for summary in found for _, name in COUNTS):
        console.print(_counts(found), "")
    for name in LATENCIES:
        if any(f"{name}.p50" in summary.values for summary in found):
            console.print(_latency(name, found, brief), "")
    if len(found) > 1:
        console.print("Ratios are to the first line.")
        for line in _ranking(found) if sound else ():
            console.print(escape(line), soft_wrap=True)


def _ranking(found: Sequence[Summary]) -> Iterator[str]:
    """Which side beats the first, by the rule of every table."""
    first, *others = found
    for other, verdicts in zip(others, rank([(first, other) for other in others]), strict=True):
        few = next((f" {verdict.why.capitalize()}." for verdict in verdicts if verdict.reason is RankingReason.FEW), "")
        yield f"{other.name} against {first.name}: {overall(verdicts, first.name, other.name)}{few}"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.2f}x"


def spelled(interval: Interval | None, write: Callable[[float], str] = digits, factor: float = 1.0, brief: bool = False) -> str:
    """A median with its interval, or alone if `brief`; else a dash."""
    if interval is None:
        return "-"
    values = [write(value * factor) for value in (interval.median, interval.low, interval.high)]
    return values[0] if brief or interval.level == 0 else f"{values[0]} [dim]({values[1]} to {values[2]})[/]"


def ratio(interval: Interval | None, brief: bool = False) -> str:
    """A ratio to the first side, with its interval."""
    return "" if interval is None else spelled(interval, times, brief=brief)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(title, overflow="fold")
    for label in columns:
        table.add_column(label, justify="right", no_wrap=True)
    return table


def _throughput(found: Sequence[Summary], brief: bool) -> Table:
    shown = [(label, name) for label, name in RATES if any(name in summary.intervals for summary in found)]
    several = len(found) > 1
    table = _table("per second", [label for label, _ in shown] + ["output ratio"] * several)
    for summary in found:
        cells = [spelled(summary.intervals.get(name), brief=brief) for _, name in shown]
        table.add_row(summary.name, *cells, *[ratio(summary.ratios.get("output_throughput"), brief)] * several)
    return table


def _counts(found: Sequence[Summary]) -> Table:
    shown = [(label, name) for label, name in COUNTS if any(summary.median(name) for summary in found)]
    table = _table("work", [label for label, _ in shown])
    for summary in found:
        table.add_row(summary.name, *(_count(summary, name) for _, name in shown))
    return table


def _count(summary: Summary, name: str) -> str:
    value = summary.median(name)
    return "-" if value is None else f"{value:.1%}" if name in SHARES else f"{value:.0f}"


def _latency(name: str, found: Sequence[Summary], brief: bool) -> Table:
    medians = [value for summary in found if (value := summary.median(f"{name}.p50")) is not None]
    factor, unit = (1.0, "s") if medians and max(medians) >= 1 else (1e3, "ms")
    compared = ("p50", "p99") if len(found) > 1 else ()
    table = _table(f"{name.upper()}, {unit}", [*PARTS, *(f"{part} ratio" for part in compared)])
    for summary in found:
        cells = [spelled(summary.intervals.get(f"{name}.{part}"), digits, factor, brief) for part in PARTS]
        ratios = [ratio(summary.ratios.get(f"{name}.{part}"), brief) for part in compared]
        table.add_row(summary.name, *cells, *ratios)
    return table
