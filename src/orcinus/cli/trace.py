"""`orcinus trace`: a record of iterations as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orcinus.errors import ConfigError


def trace(
    record: Annotated[Path, typer.Argument(help="File written with --record.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Trace to write. Default: RECORD.trace.json.")] = None,
) -> None:
    """Turn a record of iterations into a trace for https://ui.perfetto.dev or chrome://tracing.

    Requests are tracks, iterations are slices. Example: `orcinus generate "Hi" --record steps.jsonl`, then
    `orcinus trace steps.jsonl`
    """
    from orcinus.observe.perfetto import trace as draw
    from orcinus.observe.recorder import read_lines

    target = out or record.with_suffix(".trace.json")
    drawn = draw(read_lines(record))
    try:
        target.write_text(json.dumps(drawn), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the trace to {target}: {error.strerror or error}") from None
    Console().print(f"{len(drawn['traceEvents'])} events in {target}: open it at https://ui.perfetto.dev", soft_wrap=True)
