"""The engine of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


def check_takes_text(config: EngineConfig) -> None:
    """Raise `ConfigError` for a model without a tokenizer, before it takes memory; one still to be downloaded passes."""
    from orcinus.runtime.hub import find_model
    from orcinus.text.tokenizer_files import has_tokenizer

    if config.model is not None and Path(config.model).exists() and not has_tokenizer(find_model(config.model, weights=False)):
        raise ConfigError(f"the model in {config.model} has no tokenizer: it takes token ids, from Python alone")


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
