"""`orcinus bench compare`: two results, ranked where they can be."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from orcinus.errors import ConfigError

if TYPE_CHECKING:
    from orcinus.bench.ranking import Verdict

Side = Annotated[str | None, typer.Option(help="Which side of that result, if it has several.")]


def compare(
    a: Annotated[Path, typer.Argument(help="A result of orcinus bench.")],
    b: Annotated[Path, typer.Argument(help="Another one; the same file to compare two of its sides.")],
    a_side: Side = None,
    b_side: Side = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a metric.")] = False,
) -> None:
    """Say which of two results is better, and in which metrics.

    Or say why that is unknown. Refuses if the work differs, and ranks what lies beyond the noise of so many metrics (seven
    repeats can tell). Exit status 1 if nothing could be ranked.
    Example: `orcinus bench compare before.json after.json`
    """
    from orcinus.bench.compare import compare as judge
    from orcinus.bench.compare import overall
    from orcinus.bench.result import read_result
    from orcinus.bench.validity import doubts
    from orcinus.cli.bench.show import print_doubt

    one, other = read_result(a), read_result(b)
    verdicts = judge(one, other, a_side, b_side)
    if as_json:
        for verdict in verdicts:
            print(json.dumps(asdict(verdict) | {"ratio": verdict.ratio, "why": verdict.why}))
    else:
        _print(verdicts, overall(verdicts))
        for path, result in {a: one, b: other}.items():
            for doubt in doubts(result):
                print_doubt(Console(highlight=False), f"[bold red]![/] {path}:", doubt)
        if one.machine != other.machine:
            print("They were measured on different machines: what differs may be the machine.")
        elif one.when != other.when:
            print("They did not take turns: what differs may be what else the machine did.")
    if not verdicts:
        raise ConfigError("the results have no metric in common")
    if not any(verdict.better for verdict in verdicts):
        raise typer.Exit(1)


def _print(verdicts: list[Verdict], closing: str) -> None:
    from orcinus.cli.bench.show import LEAST
    from orcinus.cli.bench.view import spelled

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("", "a", "b", "b / a", "better"):
        table.add_column(title, justify="left" if title in ("", "better") else "right")
    for verdict in verdicts:
        factor, unit = (1e3, " (ms)") if "." in verdict.metric else (1.0, "")
        cells = [spelled(interval, factor=factor) for interval in (verdict.a, verdict.b)]
        quotient = "-" if verdict.ratio is None else f"{verdict.ratio:.2f}x"
        table.add_row(verdict.metric + unit, *cells, quotient, verdict.better or "-")
    console = Console(highlight=False)
    if not console.is_terminal or console.width < LEAST:
        console = Console(highlight=False, width=LEAST)
    console.print(table)
    for why in dict.fromkeys(verdict.why for verdict in verdicts if verdict.why):
        names = ", ".join(verdict.metric for verdict in verdicts if verdict.why == why)
        console.print(f"Not ranked, as {why}: {names}.", soft_wrap=True)
    console.print(closing)
