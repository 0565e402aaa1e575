"""The tables of a profile, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orcinus.profile.result import BatchProfile, OperatorTime, Profile

SUMMARY = ("iteration", "ms", "tokens/s", "floor ms", "x floor", "timers")
OPERATORS = ("operator", "calls", "ms", "share", "MB", "GFLOP", "floor ms", "x floor")


class ProfileTable(NamedTuple):
    """A title, the names of columns, and rows of cells. All columns but the first are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def heading(found: Profile) -> str:
    """What was measured, and where."""
    return f"{found.model} in {found.dtype} on {found.machine}; attention {found.attention}"


def tables(found: Profile) -> list[ProfileTable]:
    """A table of whole iterations, and one of the operators of each."""
    operators = [ProfileTable(_title(each), OPERATORS, [*map(_operator, each.operators), _sum(each)]) for each in found.batches]
    return [ProfileTable("Whole iterations", SUMMARY, [_summary(each) for each in found.batches]), *operators]


def markdown(found: Profile) -> str:
    """All of it in Markdown, doubts included."""
    parts = [f"{heading(found)}.", *map(markdown_table, tables(found)), *(f"In doubt: {doubt}." for doubt in found.doubts)]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: ProfileTable) -> str:
    """One table in Markdown, below its title."""
    rule = ["---", *["---:"] * (len(table.columns) - 1)]
    lines = [f"| {' | '.join(row)} |" for row in (table.columns, rule, *table.rows)]
    return "\n".join([f"{table.title}:", "", *lines])


def digits(number: float) -> str:
    """Three significant digits; below 1 three decimals."""
    places = 3 if number < 1 else 2 if number < 10 else 1 if number < 100 else 0
    return "<0.001" if 0 < number < 0.0005 else f"{number:,.{places}f}"


def _title(each: BatchProfile) -> str:
    rates = f"{digits(each.bytes_per_s / 1e9)} GB/s and {digits(each.operations_per_s / 1e9)} GFLOP/s"
    return f"Operators of a {each.batch.name}, floor at {rates}"


def _summary(each: BatchProfile) -> list[str]:
    return [
        each.batch.name,
        digits(each.seconds * 1e3),
        digits(each.tokens / each.seconds),
        digits(each.floor_seconds * 1e3),
        digits(each.seconds / each.floor_seconds),
        f"{each.timer_share:+.1%}",
    ]


def _operator(each: OperatorTime) -> list[str]:
    floor = ["", "", ""]
    if each.ratio is not None:
        floor = [digits(each.operations / 1e9), digits(each.floor_seconds * 1e3), digits(each.ratio)]
    read = digits(each.num_bytes / 1e6) if each.num_bytes else ""
    return [each.operator, f"{each.calls}", digits(each.seconds * 1e3), f"{each.share:.1%}", read, *floor]


def _sum(each: BatchProfile) -> list[str]:
    """The last row: all operators together, with their timers."""
    seconds = sum(one.seconds for one in each.operators)
    return [
        "all, with timers",
        f"{sum(one.calls for one in each.operators)}",
        digits(seconds * 1e3),
        "100.0%",
        digits(sum(one.num_bytes for one in each.operators) / 1e6),
        digits(sum(one.operations for one in each.operators) / 1e9),
        digits(each.floor_seconds * 1e3),
        digits(seconds / each.floor_seconds),
    ]
