"""`orcinus bench report`: results as a page with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orcinus.cli.bench.out import check_out
from orcinus.errors import ConfigError

Markdown = Annotated[Path | None, typer.Option(help="Write a table for a README to this file, too.")]


def report(
    results: Annotated[list[Path], typer.Argument(help="Files that orcinus bench wrote with --out.")],
    html: Annotated[Path, typer.Option(help="The page to write. It loads nothing: everything is in it.")] = Path("report.html"),
    pngs: Annotated[Path | None, typer.Option(help="Write its pictures to this folder, too.")] = None,
    markdown: Markdown = None,
) -> None:
    """Write a page of tables and pictures about results.

    It shows distributions, iterations over time, and latency against throughput. What must not be believed stands at its top.
    Example: `orcinus bench report before.json after.json --html report.html`
    """
    from orcinus.bench.report.page import write_report
    from orcinus.bench.result import read_result
    from orcinus.plots.style import require_matplotlib

    require_matplotlib()
    check_out(html, "--html")
    check_out(markdown, "--markdown")
    if {html.resolve(), markdown and markdown.resolve()} & {path.resolve() for path in results}:
        raise ConfigError("the report would overwrite a result: give --html and --markdown names of their own")
    read = [(str(path), read_result(path)) for path in results]
    for path in write_report(read, html, pngs, markdown):
        Console(highlight=False).print(str(path), soft_wrap=True)
