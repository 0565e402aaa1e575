"""`orcinus show`: a record of iterations, or a result of a benchmark, as one HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orcinus.errors import ConfigError, plural

MOST_RECORDS = 4


def show(
    records: Annotated[list[Path], typer.Argument(help="Files written with --record, or one result of orcinus bench.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML file to write. Default: RECORD.html.")] = None,
) -> None:
    """Turn records of iterations, or a result of a benchmark, into one HTML file that plays them back in any browser.

    Several records are shown side by side, on one scale of time.

    Example: `orcinus generate "Hi" "Ho" --record run.jsonl`, then `orcinus show run.jsonl`
    """
    from orcinus.page import standalone

    if len(records) > MOST_RECORDS:
        raise ConfigError(f"at most {MOST_RECORDS} records fit side by side, not {len(records)}")
    target = out or records[0].with_suffix(".html")
    whats = [_check(record, alone=len(records) == 1) for record in records]
    try:
        texts = [(record.name, record.read_text(encoding="utf-8")) for record in records]
        target.write_text(standalone(texts), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the page to {target}: {error.strerror or error}") from None
    Console().print(f"{' beside '.join(whats)} in {target}: open it in a browser", soft_wrap=True)


def _check(path: Path, *, alone: bool) -> str:
    """What the file holds, in words. Raises `ConfigError` if it is neither a record nor, `alone`, a result."""
    from orcinus.bench.result import read_result
    from orcinus.observe.recorder import read_lines

    try:
        whole = isinstance(found := json.loads(path.read_bytes()), dict) and "sides" in found
    except (OSError, ValueError):  # a record: an object on each line. What is wrong with others is told below
        whole = False
    if whole and not alone:
        raise ConfigError(f"{path} is a result of orcinus bench, which holds several sides already: show it alone")
    if whole:
        result = read_result(path)
        return f"{plural(len(result.sides), 'side')} of orcinus bench {result.kind}"
    iterations = sum(isinstance(line, dict) and line.get("kind") == "return" for line in read_lines(path, maybe_cut=True))
    if not iterations:
        raise ConfigError(f"{path} holds no iteration that has returned: there is nothing to show")
    return plural(iterations, "iteration")
