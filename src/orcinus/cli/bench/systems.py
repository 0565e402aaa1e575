"""What is measured: configurations of the engine here, or a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from orcinus import interrupt
from orcinus.bench.config import EndpointConfig, LoadConfig
from orcinus.cli.evidence import CAUTION, print_lines
from orcinus.cli.explicit_options import explicit_options, refuse
from orcinus.cli.labels import labels
from orcinus.cli.progress import Bars
from orcinus.config import EngineConfig
from orcinus.core.component_spec import make_drafter, make_order, make_policy
from orcinus.distribution import needs

if TYPE_CHECKING:
    from orcinus.bench.result import Work
    from orcinus.bench.runner import System

SEVERAL = (
    "policy",
    "kv",
    "paper",
    "order",
    "speculative",
    "max_batch_size",
    "max_batch_tokens",
)  # may be lists, separated by commas
ENGINE = [f.name for f in fields(EngineConfig) if f.name not in ("model", "seed")]  # a server has a model, too
SERVER = [f.name for f in fields(EndpointConfig) if f.name != "url"]


def find_systems(
    context: typer.Context, configs: Sequence[EngineConfig], server: EndpointConfig, load: LoadConfig, bars: Bars
) -> tuple[Sequence[System], Work]:
    """Engines in this process, or a server, and their work. Raises `ConfigError`."""
    check(configs, load)
    interrupt.raise_exception()
    if server.url is None:
        from orcinus.bench.offline import engine_systems

        refuse(explicit_options(context), SERVER, "is about a server: give its --url, or leave it out")
        return engine_systems(dict(zip(labels(configs, SEVERAL), configs, strict=True)), load, loading(bars))
    with needs_client():
        from orcinus.bench.server import server_system

    refuse(explicit_options(context), ENGINE, "is for an engine in this process: leave it out, or --url")
    system, work = server_system(server, load, None if configs[0].model is None else str(configs[0].model), configs[0].seed)
    return [system], work


def check(configs: Sequence[EngineConfig], load: LoadConfig) -> None:
    """Raise `ConfigError` for errors that any model would have, before slow imports."""
    print_notes(load, configs[0].seed)
    for config in configs:
        make_policy(str(config.policy)), make_order(config.order), make_drafter(config.speculative)


def print_notes(load: LoadConfig, seed: int) -> None:
    """Print notes on a trace on stderr. Raises `ConfigError`."""
    print_lines(Console(stderr=True, highlight=False), CAUTION, load.notes(seed))


def needs_client() -> AbstractContextManager[None]:
    """Check that the client's packages are installed.

    Raises `ConfigError` that says what to install.
    """
    return needs("measuring a server", "bench")


def loading(bars: Bars) -> Callable[[str, int, int], None]:
    """A bar for each stage of loading a model."""
    shown: dict[str, Callable[..., None]] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in shown:
            shown[stage] = bars.bar(stage, total or 1)
        shown[stage](done if total else 1, total or 1)

    return tell
