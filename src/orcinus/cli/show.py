"""`orcinus show`: a record of iterations as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orcinus.errors import ConfigError


def show(
    record: Annotated[Path, typer.Argument(help="File written with --record.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML file to write. Default: RECORD.html.")] = None,
) -> None:
    """Turn a record of iterations into one HTML file that plays it back in any browser, without a server.

    Example: `orcinus generate "Hi" "Ho" --record run.jsonl`, then `orcinus show run.jsonl`
    """
    from orcinus.observe.recorder import read_lines
    from orcinus.page import standalone

    target = out or record.with_suffix(".html")
    iterations = sum(isinstance(line, dict) and line.get("kind") == "return" for line in read_lines(record))
    if not iterations:
        raise ConfigError(f"{record} holds no iteration that has returned: there is nothing to show")
    try:
        target.write_text(standalone(record.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the page to {target}: {error.strerror or error}") from None
    Console().print(f"{iterations} iterations in {target}: open it in a browser", soft_wrap=True)
