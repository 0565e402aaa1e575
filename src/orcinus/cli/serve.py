"""`orcinus serve`: an OpenAI-compatible server of a real or simulated model."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import typer

from orcinus import interrupt
from orcinus.cli.explicit_options import explicit_options, refuse
from orcinus.cli.options import NAMED, takes, takes_engine, takes_some
from orcinus.config import EngineConfig
from orcinus.distribution import needs
from orcinus.serve.config import ServerConfig
from orcinus.sim.live_config import LiveConfig

REAL = [f.name for f in fields(EngineConfig)]
SIMULATED = LiveConfig.options()
ONLY_SIMULATED = [name for name in SIMULATED if name not in REAL]
ONLY_REAL = [NAMED, *(name for name in REAL if name not in SIMULATED), "model"]
SIMULATE = (
    "Serve a simulation of this model, with made-up text: a preset such as gpt3-175b, or a config.json. The options of the "
    "engine, --device a100-40g among them, are then those of `orcinus simulate`, with its defaults."
)


@takes("server", ServerConfig)
@takes_some("simulation", LiveConfig, ONLY_SIMULATED)
@takes_engine(names_model=True)
def serve(
    context: typer.Context,
    simulate: Annotated[str | None, typer.Option(metavar="MODEL", help=SIMULATE)] = None,
    *,
    server: ServerConfig,
    simulation: dict[str, Any],
    config: EngineConfig,
) -> None:
    """Serve the model over HTTP, with the endpoints of the OpenAI API.

    Example: `orcinus serve --port 8000`, then point any OpenAI client at http://127.0.0.1:8000/v1
    """
    said = explicit_options(context)
    if server.replicas == 1:
        refuse(said, ["router"], "chooses among replicas: add --replicas, or leave it out")
    if simulate is None:
        refuse(said, ONLY_SIMULATED, "says how a simulation goes: add --simulate MODEL, or leave it out")
        asked: EngineConfig | LiveConfig = config
    else:
        refuse(said, ONLY_REAL, "is for real models: leave it out, or --simulate")
        asked = LiveConfig(**{name: context.params[name] for name in said if name in SIMULATED} | {"model": simulate})
    with needs("the server", "serve"):
        from orcinus.serve.server import run

    interrupt.raise_exception()
    run(asked, server, said)
