"""Where a result goes: to the terminal, and to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from orcinus import interrupt
from orcinus.errors import ConfigError
from orcinus.files import can_write

if TYPE_CHECKING:
    from orcinus.bench.result import Result


Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write everything that was measured to this file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what --out would write instead of tables.")]


def check_out(out: Path | None, flag: str = "--out") -> None:
    """Raise `ConfigError`, before the work, if the file cannot be written."""
    if out is not None and not can_write(out):
        raise ConfigError(f"cannot write {out}: give {flag} a file in a folder that is there and can be written")


def finish(result: Result, out: Path | None, as_json: bool) -> None:
    """Write and print a result, and exit with its status.

    1 if it must not be believed or served no request, 130 if interrupted.
    """
    from orcinus.bench.result import encode, write_result
    from orcinus.cli.bench.show import print_result

    if out is not None:
        write_result(out, result)
    if as_json:
        print(encode(result).decode())
    else:
        print_result(Console(highlight=False), result)
    if out is not None:
        Console(stderr=True, highlight=False).print(f"Everything that was measured is in {out}.", soft_wrap=True)
    if not result.complete:
        raise typer.Exit(interrupt.STATUS)
    repeats = [repeat for side in result.sides for repeat in side.repeats]
    none_served = not any(request.outcome == "ok" for repeat in repeats for request in repeat.requests)
    if none_served or any(not repeat.valid for repeat in repeats):
        raise typer.Exit(1)
