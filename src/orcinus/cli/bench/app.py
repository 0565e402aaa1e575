"""`orcinus bench`: its commands."""

from __future__ import annotations

import typer

from orcinus.cli.bench.capacity import capacity
from orcinus.cli.bench.compare import compare
from orcinus.cli.bench.offline import offline
from orcinus.cli.bench.papers import papers
from orcinus.cli.bench.report import report
from orcinus.cli.bench.serve import serve
from orcinus.cli.bench.sweep import sweep

app = typer.Typer(
    name="bench",
    add_completion=False,
    help="Measure engines and servers, compare them, and leave a file that others can check.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (offline, serve, sweep, capacity, papers, compare, report):
    app.command()(command)
