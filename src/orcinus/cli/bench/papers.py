"""`orcinus bench papers`: the papers' experiments, smaller, on a real model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from orcinus import interrupt
from orcinus.cli.bench.systems import loading
from orcinus.cli.progress import progress
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError

if TYPE_CHECKING:
    from orcinus.bench.result import Result
    from orcinus.papers.findings import Finding
    from orcinus.papers.measured.study import Study


def papers(
    model: Annotated[str | None, typer.Option(help="Model folder, or hub repository. Default: the bundled model.")] = None,
    revision: Annotated[str | None, typer.Option(help=EngineConfig.doc("revision"), show_default=False)] = None,
    only: Annotated[str | None, typer.Option(help="Some of orca, stalls, chunks and paging, with commas between.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write what was measured to this folder, a file a study.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a figure of every study into this folder.")] = None,
) -> None:
    """Measure small versions of the papers' experiments.

    Says for each whether the shape of the paper's figure is found here. Rates are found by a short run first, so that they suit
    the machine. Exit status 1 if a shape was not found.
    Example: `orcinus bench papers --only stalls --plot pictures`
    """
    from orcinus.cli.papers_view import print_study
    from orcinus.papers.measured import choose
    from orcinus.papers.measured.study import read_study, run_studies
    from orcinus.plots.style import require_matplotlib
    from orcinus.runtime.hub import locate
    from orcinus.tiny import MODEL_DIR

    if revision is not None:
        model = str(locate(model or MODEL_DIR, revision))
    if plot is not None:
        require_matplotlib()
    studies = choose(only)
    for folder in (out, plot):
        _make(folder)
    interrupt.raise_exception()
    console = Console(highlight=False)
    passed, complete = [], True
    with progress() as bars:
        for study, result in run_studies(studies, model, repeats, loading=lambda: loading(bars), bar=bars.bar):
            found = read_study(study, result)
            _keep(study, result, found, out, plot)
            print_study(console, study, result, found)
            passed.append(found is not None and found.passed)
            complete = result.complete
    if not complete:
        raise typer.Exit(interrupt.STATUS)
    if not all(passed):
        raise typer.Exit(1)


def _make(folder: Path | None) -> None:
    """Make a folder. Raises `ConfigError` before the work begins."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: give a folder ({error.strerror or error})") from None


def _keep(study: Study, result: Result, found: Finding | None, out: Path | None, plot: Path | None) -> None:
    from orcinus.bench.result import write_result

    if out is not None:
        write_result(out / f"{study.name}.json", result)
    if plot is not None and found is not None:
        from orcinus.plots.figures import draw_figure

        for figure in found.figures:
            draw_figure(plot / f"{figure.name}.svg", figure)
