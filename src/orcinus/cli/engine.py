"""The engine of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from orcinus import interrupt
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError

ADAPTER = "The adapter of --lora that answers. Default: the only one."


def adapter_to_use(config: EngineConfig, named: str | None) -> str:
    """The adapter that answers a command's prompts; "" without any. Raises `ConfigError` if it is not clear which."""
    known = config.adapters
    if named is not None and named not in known:
        names = f"known are {', '.join(known)}" if known else "none is given with --lora"
        raise ConfigError(f"there is no adapter {named!r}: {names}")
    if named is None and len(known) > 1:
        raise ConfigError(f"several adapters are given: say with --adapter which one answers, {' or '.join(known)}")
    return named or (known[0] if known else "")


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
