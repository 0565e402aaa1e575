"""How a study looks in a terminal: what was published and measured, side by side, then the verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from orcinus.bench.doubts import doubts
from orcinus.bench.papers.seen import Seen, Shape
from orcinus.bench.papers.study import Study
from orcinus.bench.result import Result
from orcinus.cli.bench.show import WIDTH, heading, print_doubt
from orcinus.cli.bench.view import spelled


def print_study(console: Console, study: Study, result: Result, seen: Seen | None) -> None:
    """Everything about one study."""
    if not console.is_terminal:
        console = Console(width=WIDTH, highlight=False)
    console.print(f"\n[bold]{study.name}[/]: {study.source}")
    console.print(heading(result))
    console.print(f"[bold]Published:[/] {study.expected}")
    console.print(f"[bold]Here:[/] {study.here}\n")
    if seen is not None:
        console.print(_lines(seen), "")
        console.print(_shapes(seen), "")
        for note in (*_sureness(seen), *seen.notes):
            console.print(f"- {note}")
        console.print(f"[bold]{study.name}: {verdict(seen)}[/]")
    for doubt in doubts(result, outputs=False):  # sides may have other requests, or break ties of bfloat16 otherwise
        print_doubt(console, "[bold red]![/]", doubt)


def verdict(seen: Seen) -> str:
    """In a few words."""
    missing = sum(not shape.found for shape in seen.shapes)
    return "shape found" if not missing else f"shape not found: {missing} of {len(seen.shapes)} comparisons do not hold"


def _lines(seen: Seen) -> Table:
    table = _table("", "published", "measured")
    for line in seen.lines:
        table.add_row(line.what, line.published or "-", f"{spelled(line.measured)} {line.unit}".strip())
    return table


def _shapes(seen: Seen) -> Table:
    table = _table("shape", "this", "below this", "")
    for shape in seen.shapes:
        cells = [f"{spelled(interval)} {shape.unit}".strip() for interval in (shape.less, shape.more)]
        table.add_row(shape.what, *cells, _mark(shape))
    return table


def _mark(shape: Shape) -> str:
    return "found" if shape.found else "[red]not found[/]"


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index in (0, 3) else "right", overflow="fold")
    return table


def _sureness(seen: Seen) -> list[str]:
    """What the brackets mean, of those that there are."""
    levels = {line.measured.level for line in seen.lines}
    if 0.0 in levels:
        return ["One repeat: nobody knows how much of this is noise. Use --repeats 5."]
    return [f"The true medians lie between the values in brackets with {min(levels):.0%}."]
