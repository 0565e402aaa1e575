"""`orcinus replay`: a recorded run once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def replay(record: Annotated[Path, typer.Argument(help="File written with --record.")]) -> None:
    """Replay a record of iterations.

    The real scheduler runs on the recorded arrivals, times and tokens; no model runs. Reports the line of the first decision
    that differs from the record, if any.
    """
    from orcinus.errors import plural
    from orcinus.observe.recorder import read_lines
    from orcinus.observe.replay import replay as run

    done = run(read_lines(record))
    counts = ", ".join(
        plural(*each) for each in ((done.batches, "iteration"), (done.requests, "request"), (done.tokens, "token"))
    )
    Console().print(f"The same decisions: {counts} in {done.seconds:.2f} s.", highlight=False)
