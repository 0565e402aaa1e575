"""The engine of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from orcinus import interrupt
from orcinus.config import EngineConfig


@contextmanager
def engine(config: EngineConfig) -> Iterator[Any]:
    """An `LLM` for the block.

    Ctrl-C while it loads exits at once. Exits with status 1 if an observer was dropped meanwhile, such as a record whose disk
    is full; the log says why.
    """
    from orcinus.llm import LLM

    with LLM.from_config(config) as llm:
        interrupt.raise_exception()
        try:
            yield llm
        finally:
            interrupt.leave_at_once()
    if llm.engine.dropped_observers:
        raise typer.Exit(1)
