"""Tried rates in a terminal: a line for each system and rate."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.table import Table

from orcinus.bench.capacity import missed, rate_of
from orcinus.bench.formatting import digits
from orcinus.bench.result import Result, Side
from orcinus.bench.summary import Summary, summarize
from orcinus.cli.bench.view import spelled
from orcinus.observe.interval import Interval

COLUMNS = (  # title, metric, factor
    ("requests/s", "request_throughput", 1.0),
    ("output tokens/s", "output_throughput", 1.0),
    ("TTFT p50", "ttft.p50", 1e3),
    ("TTFT p99", "ttft.p99", 1e3),
    ("TBT p50", "tbt.p50", 1e3),
    ("TBT p99", "tbt.p99", 1e3),
    ("E2E p50", "e2e.p50", 1e3),
    ("goodput", "goodput", 1.0),
    ("promises kept", "promises_kept", 1.0),
)


def print_rates(console: Console, result: Result) -> None:
    """Print a group of lines for every rate, after the capacities."""
    if result.kind == "capacity":
        _print_capacity(console, result)
    sides = [side for side in result.sides if side.repeats]
    found = {summary.name: summary for summary in summarize(sides, result.goodput_slo)} if sides else {}
    shown = [column for column in COLUMNS if any(column[1] in summary.intervals for summary in found.values())]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("offered", justify="right")
    table.add_column("", overflow="fold")
    for title, _, factor in shown:
        table.add_column(title + (", ms" if factor != 1 else ""), justify="right", no_wrap=True)
    for _, group in groupby(sorted(sides, key=rate_of), key=rate_of):
        for number, side in enumerate(group):
            offered = digits(rate_of(side)) if number == 0 else ""
            table.add_row(offered, _name(side), *(_cell(found[side.name], column) for column in shown))
        table.add_section()
    console.print(table, "")


def _print_capacity(console: Console, result: Result) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("", "capacity, requests/s", "ratio", "rates tried"):
        table.add_column(title, justify="right" if title else "left")
    first = next(iter(result.capacity.values()), 0.0)
    for name, rate in result.capacity.items():
        tried = sum(side.settings["system"] == name for side in result.sides)
        table.add_row(name, digits(rate), f"{rate / first:.2f}x" if first else "-", str(tried))
    console.print(table, "")
    objectives = ", ".join(f"{name} <= {seconds:g} s" for name, seconds in result.objectives.items())
    console.print(
        f"Objectives: {objectives}. 0 = kept at no rate that was tried.", *missed(result), "", sep="\n", soft_wrap=True
    )


def _cell(summary: Summary, column: tuple[str, str, float]) -> str:
    _, metric, factor = column
    interval: Interval | None = summary.intervals.get(metric)
    return spelled(interval, factor=factor, brief=True)


def _name(side: Side) -> str:
    kept = side.settings.get("kept")
    word = {True: ", kept", False: ", not kept", None: ", not measured"}[kept] if "kept" in side.settings else ""  # type: ignore[index]
    return f"{side.settings['system']}{word}"
