"""Findings of the papers' experiments in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orcinus.bench.result import Result
from orcinus.bench.validity import doubts
from orcinus.cli.bench.show import WIDTH, heading, print_doubt
from orcinus.papers.findings import Comparison, Finding, Number
from orcinus.papers.measured.study import Study
from orcinus.papers.page import heading as row_heading
from orcinus.papers.page import table_row, verdict
from orcinus.papers.simulated.experiment import Experiment


def print_experiment(console: Console, row: Experiment, found: Finding, seconds: float) -> None:
    """A row of the acceptance table."""
    style = "green" if found.passed and not found.bounds else "yellow" if found.passed or found.skipped else "red"
    console.print(f"\n[bold]{row_heading(row)}[/] ({row.paper})  [{style}]{verdict(found)}[/]  {seconds:.1f} s")
    console.print(f"tolerance {row.tolerance}; fitted: {row.calibrated}", style="dim")
    console.print(_table(found, "simulated"))
    for note in ([f"skipped: {found.skipped}"] if found.skipped else []) + list(found.notes):
        console.print(f"- {note}")


def print_study(console: Console, study: Study, result: Result, found: Finding | None) -> None:
    """Print a study and its doubts; `found` is None without a finding."""
    if not console.is_terminal:
        console = Console(width=WIDTH, highlight=False)
    console.print(f"\n[bold]{study.name}[/]: {study.paper}, {study.figure}")
    console.print(heading(result))
    console.print(f"[bold]Published:[/] {study.expected}")
    console.print(f"[bold]Here:[/] {study.here}\n")
    if found is not None:
        console.print(_table(found, "measured"), "")
        for note in (*_sureness(found), *found.notes):
            console.print(f"- {note}")
        console.print(f"[bold]{study.name}: {shape_verdict(found)}[/]")
    for doubt in doubts(result, outputs=False):  # sides may have other requests, or break ties of bfloat16 differently
        print_doubt(console, "[bold red]![/]", doubt)


def shape_verdict(found: Finding) -> str:
    """Whether the shape of the published figure was found, in words."""
    missing = sum(not ordering.passed for ordering in found.orderings)
    return "shape found" if not missing else f"shape not found: {missing} of {len(found.orderings)} comparisons do not hold"


def _table(found: Finding, ours: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("", "published", ours, "error", ""):
        table.add_column(title, justify="left" if title == "" else "right", overflow="fold")
    for comparison in found.comparisons:
        *cells, judgement = map(escape, table_row(comparison))
        table.add_row(*cells, _coloured(comparison, judgement))
    return table


def _coloured(comparison: Comparison, judgement: str) -> str:
    if not comparison.passed:
        return f"[red]{judgement}[/]"
    return f"[yellow]{judgement}[/]" if isinstance(comparison, Number) and comparison.only_bound else judgement


def _sureness(found: Finding) -> list[str]:
    """The meaning of the brackets, if there are any."""
    levels = {each.measured.level for each in found.measurements}
    if 0.0 in levels:
        return ["One repeat does not say how much of this is noise: use --repeats 5."]
    return [f"The true medians lie between the values in brackets with {min(levels):.0%}."]
