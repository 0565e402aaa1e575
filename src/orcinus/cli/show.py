"""`orcinus show`: a record of iterations, or a result of a benchmark, as one HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orcinus.errors import ConfigError


def show(
    record: Annotated[Path, typer.Argument(help="File written with --record, or a result of orcinus bench.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML file to write. Default: RECORD.html.")] = None,
) -> None:
    """Turn a record of iterations, or a result of a benchmark, into one HTML file that plays it back in any browser.

    Example: `orcinus generate "Hi" "Ho" --record run.jsonl`, then `orcinus show run.jsonl`
    """
    from orcinus.page import standalone

    target = out or record.with_suffix(".html")
    what = _check(record)
    try:
        target.write_text(standalone(record.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the page to {target}: {error.strerror or error}") from None
    Console().print(f"{what} in {target}: open it in a browser", soft_wrap=True)


def _check(path: Path) -> str:
    """What the file holds, in words. Raises `ConfigError` if it is neither a record nor a result."""
    from orcinus.bench.result import read_result
    from orcinus.observe.recorder import read_lines

    try:
        whole = isinstance(found := json.loads(path.read_bytes()), dict) and "sides" in found
    except (OSError, ValueError):  # a record: an object on each line. What is wrong with others is told below
        whole = False
    if whole:
        result = read_result(path)
        return f"{len(result.sides)} sides of orcinus bench {result.kind}"
    iterations = sum(isinstance(line, dict) and line.get("kind") == "return" for line in read_lines(path))
    if not iterations:
        raise ConfigError(f"{path} holds no iteration that has returned: there is nothing to show")
    return f"{iterations} iterations"
