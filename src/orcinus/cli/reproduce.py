"""`orcinus reproduce`: the papers' numbers beside ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from orcinus.errors import ConfigError

if TYPE_CHECKING:
    from orcinus.papers.findings import Comparison, Finding
    from orcinus.papers.simulated.experiment import Experiment


def reproduce(
    rows: Annotated[list[int] | None, typer.Argument(metavar="[ROW]...", help="Rows of the table; all if none.")] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Say which rows there are, and run none.")] = False,
    seeds: Annotated[
        int, typer.Option(min=1, max=99, help="Seeds of rows that depend on chance: figures are medians, with intervals.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for every row.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write papers.md, with its figures, into this folder: the docs of the repository.")
    ] = None,
) -> None:
    """Run the papers' experiments (Orca, SARATHI, Sarathi-Serve) in the simulator.

    Prints published and simulated numbers with their error. Exit status 1 if a number lies outside its tolerance. Example:
    `orcinus reproduce 1 14 20`
    """
    from orcinus.cli.papers_view import print_experiment
    from orcinus.papers.page import tally
    from orcinus.papers.simulated import choose

    chosen = choose(rows or [])
    if list_rows:
        _list(chosen)
        return
    if write is not None:
        _check_folder(write)
    results = []
    for row, found, seconds in _run(chosen, seeds):
        results.append((row, found))
        if as_json:
            print(json.dumps(_record(row, found)), flush=True)
        else:
            print_experiment(Console(highlight=False), row, found, seconds)
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
        raise ConfigError(f"{folder} is not a folder: --write takes the folder for papers.md")
    require_matplotlib()


def _run(rows: Sequence[Experiment], seeds: int) -> Iterator[tuple[Experiment, Finding, float]]:
    """Each row with its finding and seconds, one row on a core."""
    from orcinus.papers.page import heading
    from orcinus.papers.simulated import ROWS
    from orcinus.sim.parallel import in_parallel

    console = Console(stderr=True)
    results = in_parallel(partial(_find, seeds), [ROWS.index(row) for row in rows])
    for row in rows:
        with console.status(heading(row)):
            found, seconds = next(results)
        yield row, found, seconds


def _find(seeds: int, place: int) -> tuple[Finding, float]:
    """The finding of the row at this place, and how many seconds it took."""
    from orcinus.papers.simulated import ROWS

    began = time.perf_counter()
    return ROWS[place].over(seeds), time.perf_counter() - began


def _list(rows: Sequence[Experiment]) -> None:
    table = Table("row", "paper", "experiment", "tolerance", "fitted", box=None, header_style="bold")
    for row in rows:
        table.add_row(str(row.number or ""), row.paper, row.figure, row.tolerance, row.calibrated)
    Console(highlight=False).print(table)


def _record(row: Experiment, found: Finding) -> dict[str, object]:
    from orcinus.papers.page import verdict

    about = {
        name: getattr(row, name)
        for name in ("number", "paper", "setup", "tolerance", "calibrated", "source", "scope", "device", "chance")
    }
    return about | {
        "experiment": row.figure,
        "passed": found.passed,
        "verdict": verdict(found),
        "skipped": found.skipped,
        "checks": [_check(each) for each in found.comparisons],
        "notes": list(found.notes),
    }


def _check(comparison: Comparison) -> dict[str, object]:
    """A comparison as JSON; an ordering has no numbers."""
    from orcinus.papers.findings import Number

    if isinstance(comparison, Number):
        judged = {name: getattr(comparison, name) for name in ("error", "passed", "only_bound", "sure")}
        return asdict(comparison) | {"holds": None} | judged
    nothing = dict.fromkeys(("published", "simulated", "error"))
    return nothing | {"what": comparison.what, "holds": comparison.passed, "passed": comparison.passed, "only_bound": False}


def _write(folder: Path, results: Sequence[tuple[Experiment, Finding]]) -> None:
    """The page and its figures."""
    from orcinus.papers.page import page
    from orcinus.plots.figures import draw_figure

    pictures = folder / "pictures" / "papers"
    pictures.mkdir(parents=True, exist_ok=True)
    for _, found in results:
        for figure in found.figures:
            draw_figure(pictures / f"{figure.name}.svg", figure)
    (folder / "papers.md").write_text(page(results), encoding="utf-8")
