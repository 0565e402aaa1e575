"""`orcinus reproduce`: the papers' numbers beside ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from orcinus.errors import ConfigError

if TYPE_CHECKING:
    from orcinus.papers.row import Found, Row


def reproduce(
    rows: Annotated[list[int] | None, typer.Argument(metavar="[ROW]...", help="Rows of the table; all if none.")] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Say which rows there are, and run none.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for every row.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write papers.md, with its figures, into this folder: the docs of the repository.")
    ] = None,
) -> None:
    """Run the experiments of the Orca, SARATHI and Sarathi-Serve papers in the simulator: published, simulated, error.

    Exit status 1 if a number lies outside its tolerance. Example: `orcinus reproduce 1 14 20`
    """
    from orcinus.papers.page import tally
    from orcinus.papers.table import choose

    chosen = choose(rows or [])
    if list_rows:
        _list(chosen)
        return
    if write is not None:
        _check_folder(write)
    results = []
    for row, found, seconds in _run(chosen):
        results.append((row, found))
        if as_json:
            print(json.dumps(_record(row, found)), flush=True)
        else:
            _print(row, found, seconds)
    if write is not None:
        _write(write, results)
    if not as_json:
        Console(highlight=False).print("\n" + tally([found for _, found in results]))
    if not all(found.passed or found.skipped or not row.number for row, found in results):
        raise typer.Exit(1)


def _check_folder(folder: Path) -> None:
    """Raise `ConfigError` if the page and its figures cannot be written there."""
    from orcinus.plots.style import require_matplotlib

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: --write wants the one that papers.md is to be written into")
    require_matplotlib()


def _run(rows: Sequence[Row]) -> Iterator[tuple[Row, Found, float]]:
    from orcinus.papers.page import heading

    console = Console(stderr=True)
    for row in rows:
        began = time.perf_counter()
        with console.status(heading(row)):
            found = row.run()
        yield row, found, time.perf_counter() - began


def _list(rows: Sequence[Row]) -> None:
    table = Table("row", "paper", "experiment", "tolerance", "fitted", box=None, header_style="bold")
    for row in rows:
        table.add_row(str(row.number or ""), row.paper, row.experiment, row.tolerance, row.calibrated)
    Console(highlight=False).print(table)


def _print(row: Row, found: Found, seconds: float) -> None:
    from orcinus.papers.page import heading, judged, number, percent, verdict

    console = Console(highlight=False)
    style = "yellow" if found.only_bound else "green" if found.passed else "yellow" if found.skipped else "red"
    console.print(f"\n[bold]{heading(row)}[/] ({row.paper})  [{style}]{verdict(found)}[/]  {seconds:.1f} s")
    console.print(f"tolerance {row.tolerance}; fitted: {row.calibrated}", style="dim")
    table = Table(box=None, padding=(0, 1))
    for title in ("", "published", "simulated", "error", ""):
        table.add_column(title, justify="left" if title == "" else "right")
    for check in found.checks:
        mark = f"[yellow]{judged(check)}[/]" if check.only_bound else "" if check.passed else "[red]miss[/]"
        if check.holds is not None:
            table.add_row(check.what, "", "", "", "holds" if check.holds else "[red]does not hold[/]")
        else:
            values = (number(check.published, check.unit), number(check.simulated, check.unit), percent(check.error))
            table.add_row(check.what, *values, mark)
    console.print(table)
    for note in ([f"skipped: {found.skipped}"] if found.skipped else []) + list(found.notes):
        console.print(f"- {note}")


def _record(row: Row, found: Found) -> dict[str, object]:
    from orcinus.papers.page import verdict

    checks = [
        asdict(check) | {"error": check.error, "passed": check.passed, "only_bound": check.only_bound} for check in found.checks
    ]
    about = {
        name: getattr(row, name) for name in ("number", "paper", "experiment", "setup", "tolerance", "calibrated", "source")
    }
    return about | {
        "passed": found.passed,
        "verdict": verdict(found),
        "skipped": found.skipped,
        "checks": checks,
        "notes": list(found.notes),
    }


def _write(folder: Path, results: Sequence[tuple[Row, Found]]) -> None:
    """The page and its figures."""
    from orcinus.papers.page import page
    from orcinus.plots.figures import draw_figure

    pictures = folder / "pictures" / "papers"
    pictures.mkdir(parents=True, exist_ok=True)
    for _, found in results:
        for figure in found.figures:
            draw_figure(pictures / f"{figure.name}.svg", figure)
    (folder / "papers.md").write_text(page(results), encoding="utf-8")
