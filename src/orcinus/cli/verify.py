"""`orcinus verify`: whether a request's bits depend on how it is scheduled."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from orcinus.cli.options import ADAPTERS, takes_engine
from orcinus.config import EngineConfig

if TYPE_CHECKING:
    from orcinus.verify import BitComparison


@takes_engine(names_model=True, without=ADAPTERS)
def verify(
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the prompt, which are drawn at random.")] = 200,
    max_tokens: Annotated[int, typer.Option(min=2, help="Tokens of the answer.")] = 48,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per run.")] = False,
    *,
    config: EngineConfig,
) -> None:
    """Try whether a request's tokens depend on how it is scheduled.

    Runs one request alone, in a batch, in chunks, with a cached prefix, after a preemption, and as the options say; compares
    tokens and log-probabilities bit by bit. Exits with status 1 if anything differs or could not be tried.
    Example: `orcinus verify --dtype bfloat16`
    """
    from orcinus.build import build
    from orcinus.verify import verify as run

    console = Console()
    comparisons, built = [], build(config)
    for comparison in run(built, config, prompt_tokens, max_tokens):
        comparisons.append(comparison)
        if as_json:
            print(json.dumps(asdict(comparison) | {"holds": comparison.holds}))
    held = all(comparison.holds for comparison in comparisons)
    if not as_json:
        console.print(_table(comparisons))
        if not all(comparison.seen for comparison in comparisons):
            console.print("Longer prompts, or a larger batch, are needed to try them all.")
        console.print(_verdict(comparisons, promised=built.resolved.deterministic))
    raise typer.Exit(0 if held else 1)


def _verdict(comparisons: list[BitComparison], *, promised: bool) -> str:
    if not promised:
        return "These options promise nothing of bits: see --deterministic, and docs/reproducible.md."
    if any(comparison.differs_at is not None for comparison in comparisons if comparison.seen):
        return "The same bits were promised: please report this as a fault."
    return "As promised: scheduling changed no bit."


def _table(comparisons: list[BitComparison]) -> Table:
    table = Table("run", "tokens", "as scheduled", "bits of the first run", box=None, pad_edge=False)
    for comparison in comparisons:
        table.add_row(comparison.way, comparison.sampling, comparison.seen or "-", _words(comparison))
    return table


def _words(comparison: BitComparison) -> str:
    if not comparison.seen:
        return "not tried"
    if comparison.differs_at is None:
        return "the same"
    words = f"others from output token {comparison.differs_at + 1} on"
    return words if comparison.same_tokens else f"{words}, and other tokens"
