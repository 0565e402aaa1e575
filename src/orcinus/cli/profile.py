"""`orcinus profile`: where the time of an iteration goes, beside this machine's floor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from orcinus.cli.explicit_options import explicit_options, refuse
from orcinus.cli.options import ADAPTERS, takes_engine
from orcinus.cli.progress import progress
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.files import can_write

if TYPE_CHECKING:
    from orcinus.profile.result import Profile

UNUSED = ("policy", "paper", "record")


@takes_engine(names_model=True, without=ADAPTERS)
def profile(
    context: typer.Context,
    batch_size: Annotated[str, typer.Option(help="Decodes in an iteration, with commas between; 0 = none.")] = "1,8,32",
    context_tokens: Annotated[
        str, typer.Option("--context", help="Tokens that each decode attends to, with commas between.")
    ] = "512",
    prompt: Annotated[
        str, typer.Option(help="Tokens of a prompt's last chunk in one iteration, with commas between; 0 = none.")
    ] = "512",
    start: Annotated[str, typer.Option(help="Tokens of the prompt before that chunk, with commas between.")] = "0",
    mixed: Annotated[bool, typer.Option("--mixed", help="Also each chunk beside each batch of decodes.")] = False,
    repeats: Annotated[int, typer.Option(min=2, help="Iterations without timers, and as many with them.")] = 15,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write as JSON, in seconds and bytes.")] = None,
    markdown: Annotated[bool, typer.Option(help="Print Markdown tables.")] = False,
    *,
    config: EngineConfig,
) -> None:
    """Show where the time of an iteration goes, operator by operator.

    Runs the real engine: decodes of each size at each context, and chunks of prompts. Beside every operator stands its floor,
    the time for its bytes at this machine's memory bandwidth or for its operations at its arithmetic rate, whichever is longer;
    both are measured now. Limits and K/V memory are those that the batches need, unless you set them. For CPUs and one device.
    docs/performance.md explains the table.
    Example: `orcinus profile Qwen/Qwen3-0.6B --load-format dummy --batch-size 1,8 --context 1024`
    """
    from orcinus.build import build
    from orcinus.profile.batches import batches_of, profile_config
    from orcinus.profile.profiler import profile as measure
    from orcinus.profile.tables import markdown as as_markdown

    said = explicit_options(context)
    refuse(said, UNUSED, "has no effect here, because profile plans its own batches: leave it out")
    if json_file is not None and not can_write(json_file):
        raise ConfigError(f"cannot write {json_file}: give --json a file in a folder that exists and can be written")
    sizes, contexts = _numbers("batch-size", batch_size), _numbers("context", context_tokens)
    prompts, starts = _numbers("prompt", prompt), _numbers("start", start, zero=True)
    batches = batches_of(sizes, contexts, prompts, repeats, starts, mixed=mixed)
    config = profile_config(config, batches, repeats, keep_batch_size="max_batch_size" in said)
    with progress() as bars:
        built = build(config)
        found = measure(built, batches, repeats, bars.bar("iterations", len(batches)))
    if json_file is not None:
        json_file.write_text(json.dumps(found.as_json(), indent=1), encoding="utf-8")
    if markdown:
        print(as_markdown(found), end="")
    else:
        _print(found)


def _numbers(name: str, words: str, *, zero: bool = False) -> list[int]:
    """`1,8` -> [1, 8]; zeros are left out unless they mean something. Raises `ConfigError`."""
    try:
        found = [int(word) for word in words.split(",")]
    except ValueError:
        raise ConfigError(f"--{name} wants whole numbers with commas between, not {words!r}") from None
    return [number for number in found if number or zero]


def _print(found: Profile) -> None:
    from orcinus.profile.tables import heading, tables

    console = Console(highlight=False)
    console.print(f"[bold]{heading(found)}[/]", soft_wrap=True)
    for title, columns, rows in tables(found):
        table = Table(*columns, box=None, header_style="bold", padding=(0, 2, 0, 0))
        for number, column in enumerate(table.columns):
            column.no_wrap, column.justify = True, "right" if number else "left"
        for row in rows:
            table.add_row(*row)
        console.print(f"\n[bold]{title}[/]", soft_wrap=True)
        console.print(table)
    for doubt in found.doubts:
        console.print(f"[bold red]![/] In doubt: {doubt}. Profile again on a quiet machine.", soft_wrap=True)
