"""What was measured, as a table: in the terminal, and in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from peers import BASE
from rich.console import Console
from rich.table import Table

from orcinus.bench.formatting import digits
from orcinus.bench.ranking import METRICS, rank
from orcinus.bench.result import Result
from orcinus.bench.summary import Summary, summarize
from orcinus.bench.validity import doubts
from orcinus.observe.interval import Interval

HEADERS = (
    "engine",
    "output tokens/s",
    "all tokens/s",
    f"to {BASE}",
    "same answers",
    "same first tokens",
    "TTFT ms",
    "ms a token",
    "cores busy",
    "output tokens/CPU s",
)
IDLE = 0.02  # of a core
LATENCIES = ("ttft.p50", "tpot.p50")  # medians of requests; a peer that does not tell when tokens come has none
METRIC = "output_throughput"  # in which peers are ranked


@dataclass(frozen=True, slots=True)
class Row:
    """One peer, as strings."""

    cells: tuple[str, ...]


def rows(result: Result) -> list[Row]:
    """One for each peer that was measured, in order."""
    return [_row(summary, result) for summary in summarize(result.sides) if summary.values]


def _row(summary: Summary, result: Result) -> Row:
    shares = [summary.values.get(f"agreement.{what}", ()) for what in ("requests", "first_tokens")]
    cores, thrift = summary.intervals.get("cores_busy"), summary.intervals.get("output_tokens_per_cpu_second")
    return Row(
        (
            f"{summary.name} {result.versions.get(summary.name, '')}".strip(),
            _spelled(summary.intervals.get("output_throughput"), "{:.0f}"),
            _spelled(summary.intervals.get("total_throughput"), "{:.0f}"),
            _spelled(ratio(summary, result), "{:.2f}") or "1",
            *(f"{statistics.fmean(values):.1%}" if values else "" for values in shares),
            *latency_cells(summary),
            f"{cores.median:.2f}" if cores else "",
            f"{thrift.median:.0f}" if thrift else "",
        )
    )


def latency_cells(summary: Summary) -> tuple[str, ...]:
    """Milliseconds to the first token, and for each one after it."""
    return tuple("" if (found := summary.median(name)) is None else digits(1e3 * found) for name in LATENCIES)


def ratio(summary: Summary, result: Result) -> Interval | None:
    """Output tokens per second over the base's in the same round; None for the base itself, or without one."""
    return summary.ratios.get(METRIC) if result.sides[0].name == BASE else None


def _spelled(interval: Interval | None, form: str) -> str:
    """A median, and the interval in which it surely is."""
    if interval is None:
        return ""
    low, high = form.format(interval.low), form.format(interval.high)
    return form.format(interval.median) + (f" ({low} to {high})" if interval.level else "")


def notes(result: Result) -> list[str]:
    """What the table must not be read without: who is faster than we are, who is missing, what is in doubt."""
    lines = list(faster(result))
    left_out = [(side.name, side.settings["left_out"]) for side in result.sides if "left_out" in side.settings]
    lines += [f"{name} was left out: {why}" for name, why in left_out]
    idle = [f"{side.name} {share:.0%}" for side in result.sides if (share := idle_share(side.name, result)) > IDLE]
    if idle:
        lines.append(f"While others had their turns, these used part of a core: {', '.join(idle)}.")
    return lines + ["; ".join((doubt.what, *doubt.details)) for doubt in doubts(result, outputs=False)]


def faster(result: Result) -> Iterator[str]:
    """Those with more output tokens per second than the base, beyond the noise or within it."""
    base, *others = summarize(result.sides)
    if base.name != BASE:
        return
    ranked = rank([(base, other) for other in others], leave_out=[name for name in METRICS if name != METRIC])
    for other, verdicts in zip(others, ranked, strict=True):
        found = ratio(other, result)
        if found is None or found.median <= 1:
            continue
        if all(verdict.better == "b" for verdict in verdicts):
            yield f"{other.name} is faster than {BASE}: {found.median:.2f} times its output tokens per second."
        else:
            yield f"{other.name} had {found.median:.2f} times the output tokens per second of {BASE}, but {verdicts[0].why}."


def idle_share(name: str, result: Result) -> float:
    """Cores that a peer used while the others had their turns (the first round left out: the others were warming up)."""
    repeats = {side.name: [repeat for repeat in side.repeats if repeat.round > 0] for side in result.sides}
    others = sum(repeat.seconds for side, found in repeats.items() if side != name for repeat in found)
    used = sum(repeat.counters.get("idle_cpu_seconds", 0.0) for repeat in repeats[name])
    return used / others if others else 0.0


def print_table(console: Console, result: Result) -> None:
    """The table and its notes."""
    if not console.is_terminal:
        console = Console(width=160, highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for place, header in enumerate(HEADERS):
        table.add_column(header, justify="right" if place else "left")
    for row in rows(result):
        table.add_row(*row.cells)
    console.print(table)
    for line in notes(result):
        console.print(f"- {line}", soft_wrap=True, highlight=False, markup=False)


def markdown(result: Result) -> str:
    """The table, what was measured, where, when and how."""
    lines = [
        "| " + " | ".join(HEADERS) + " |",
        "|---" + "|---:" * (len(HEADERS) - 1) + "|",
        *("| " + " | ".join(row.cells) + " |" for row in rows(result)),
        "",
        _caption(result),
        "",
        *(f"- {line}" for line in notes(result)),
        "",
        f"`python {' '.join(result.command)}`",
    ]
    return "\n".join(lines) + "\n"


def _caption(result: Result) -> str:
    work, machine = result.work, result.machine
    repeats = max((len(side.repeats) for side in result.sides), default=0)
    limits = ", ".join(f"{name} {value}" for name, value in work.limits.items())
    return (
        f"{work.model}; {work.requests} requests ({work.workload}: {work.prompt_tokens} prompt and {work.output_tokens} output "
        f"tokens); {limits}. {machine.processor}, {machine.cores} cores, {machine.memory_mib / 1024:.0f} GiB; "
        f"{result.when[:10]}; commit {result.commit or 'unknown'}. Medians of {repeats} repeats in turn, with their intervals; "
        f"ratios to {BASE} are of the same rounds."
    )
