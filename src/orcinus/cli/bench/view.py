"""How measured sides look in a terminal: a line for each, medians with their intervals, ratios to the first."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from orcinus.bench.interval import Interval
from orcinus.bench.measure import LATENCIES, PARTS
from orcinus.bench.result import Result
from orcinus.bench.summary import Summary, doubts, same_outputs, summarize

WIDTH = 150  # of a pipe, where nobody says
RATES = (
    ("requests/s", "request_throughput"),
    ("input tokens/s", "prompt_throughput"),
    ("output tokens/s", "output_throughput"),
    ("total tokens/s", "total_throughput"),
    ("goodput", "goodput"),
)
COUNTS = (
    ("iterations", "iterations"),
    ("slot use", "slot_use"),
    ("preemptions", "preemptions"),
    ("prefix hits", "prefix_hit_rate"),
    ("not served", "not_served"),
)
SHARES = ("slot_use", "prefix_hit_rate")
TITLES = {
    "ttft": "time to first token (TTFT)",
    "tbt": "time between tokens (TBT)",
    "tpot": "time per output token (TPOT)",
    "e2e": "end to end (E2E)",
}


def print_result(console: Console, result: Result) -> None:
    """The tables, and below them what keeps the result from being believed."""
    if not console.is_terminal:
        console = Console(width=WIDTH, highlight=False)
    found = summarize(result.sides, result.objectives)
    if any(summary.values for summary in found):
        console.print(_table("throughput", RATES, found, "output_throughput"), "")
        console.print(_counts(found), "")
        for name in LATENCIES:
            if any(f"{name}.p50" in summary.values for summary in found):
                console.print(_latency(name, found), "")
        for line in _notes(result, found):
            console.print(line, soft_wrap=True)
    for doubt in doubts(result):
        console.print(f"[bold red]![/] {doubt}", soft_wrap=True)


def spelled(interval: Interval | None, form: str = "{:.4g}", factor: float = 1.0) -> str:
    """A median with its interval; a dash if it was not measured."""
    if interval is None:
        return "-"
    values = [form.format(value * factor) for value in (interval.median, interval.low, interval.high)]
    return values[0] if interval.level == 0 else f"{values[0]} [dim]({values[1]} to {values[2]})[/]"


def ratio(interval: Interval | None) -> str:
    """A ratio to the first side, with its interval."""
    return "" if interval is None else spelled(interval, "{:.2f}x")


def heading(result: Result) -> str:
    """What is measured, before it is."""
    work = result.work
    return (
        f"[bold]{work.model}[/] on {result.machine.processor}, {result.machine.cores} cores\n"
        f"{work.requests} requests ({work.workload}, {work.arrivals}): {work.prompt_tokens} prompt tokens, "
        f"{work.output_tokens} output tokens"
    )


def _base() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title_justify="left", title_style="bold")


def _table(title: str, columns: Sequence[tuple[str, str]], found: Sequence[Summary], compared: str) -> Table:
    table = _base()
    shown = [(label, name) for label, name in columns if any(name in summary.intervals for summary in found)]
    table.add_column(title, overflow="fold")
    for label, _ in shown:
        table.add_column(label, justify="right")
    if len(found) > 1:
        table.add_column("output, to the first", justify="right")
    for summary in found:
        cells = [spelled(summary.intervals.get(name)) for _, name in shown]
        table.add_row(summary.name, *cells, *([ratio(summary.ratios.get(compared))] if len(found) > 1 else []))
    return table


def _counts(found: Sequence[Summary]) -> Table:
    table = _base()
    shown = [(label, name) for label, name in COUNTS if any(_known(summary, name) for summary in found)]
    table.add_column("work", overflow="fold")
    for label, _ in shown:
        table.add_column(label, justify="right")
    for summary in found:
        table.add_row(summary.name, *(_count(summary, name) for _, name in shown))
    return table


def _known(summary: Summary, name: str) -> bool:
    """Whether there is something to tell: that nothing was preempted, or everything served, is not."""
    value = summary.median(name)
    return bool(value) or (value is not None and name in SHARES)


def _count(summary: Summary, name: str) -> str:
    value = summary.median(name)
    return "-" if value is None else f"{value:.1%}" if name in SHARES else f"{value:.0f}"


def _latency(name: str, found: Sequence[Summary]) -> Table:
    table = _base()
    medians = [value for summary in found if (value := summary.median(f"{name}.p50")) is not None]
    factor, unit = (1.0, "s") if medians and max(medians) >= 1 else (1e3, "ms")
    table.add_column(f"{TITLES[name]}, {unit}", overflow="fold")
    for part in PARTS:
        table.add_column(part, justify="right")
    if len(found) > 1:
        for part in ("p50", "p99"):
            table.add_column(f"{part}, to the first", justify="right")
    for summary in found:
        cells = [spelled(summary.intervals.get(f"{name}.{part}"), "{:.3g}", factor) for part in PARTS]
        ratios = [ratio(summary.ratios.get(f"{name}.{part}")) for part in ("p50", "p99")] if len(found) > 1 else []
        table.add_row(summary.name, *cells, *ratios)
    return table


def _notes(result: Result, found: Sequence[Summary]) -> list[str]:
    counts = [len(next(iter(summary.values.values()), ())) for summary in found]
    levels = {interval.level for summary in found for interval in summary.intervals.values()}
    notes = []
    if max(counts) > 1:
        level = f"{min(levels):.0%}" if len(levels) == 1 else f"{min(levels):.0%} to {max(levels):.0%}"
        few = "" if min(levels) >= 0.9 else "; from 5 repeats on it is above 90 %"
        notes.append(f"Medians of {_range(counts)} repeats; the true ones lie between the values in brackets with {level}{few}.")
    else:
        notes.append("One repeat: nobody knows how much of this is noise. Use --repeats 5.")
    if result.objectives:
        kept = ", ".join(f"{name} <= {seconds:g} s" for name, seconds in result.objectives.items())
        notes.append(f"Goodput: requests per second with {kept}.")
    same = same_outputs(result.sides)
    if same is not None and (len(result.sides) > 1 or max(counts) > 1):
        notes.append(
            "All outputs are the same, token by token." if same else "Outputs differ between sides or repeats, token by token."
        )
    return notes


def _range(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
