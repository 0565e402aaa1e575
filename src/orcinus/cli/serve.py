"""`orcinus serve`: an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from orcinus import interrupt
from orcinus.cli.options import takes_engine
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError


@takes_engine()
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Port; 0 = any that is free.", min=0, max=65535)] = 8000,
    served_model_name: Annotated[
        str | None, typer.Option("--served-model-name", help="The model's name in the API. Default: what --model says.")
    ] = None,
    max_queue: Annotated[int, typer.Option("--max-queue", help="Most requests at once; more get 429.", min=1)] = 256,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Most seconds a request may take.", min=0.001)] = None,
    drain: Annotated[float, typer.Option("--drain", help="Seconds that running requests have after SIGTERM.", min=0)] = 30.0,
    *,
    config: EngineConfig,
) -> None:
    """Serve the model over HTTP, with the endpoints of the OpenAI API.

    Example: `orcinus serve --port 8000`, then point any OpenAI client at http://127.0.0.1:8000/v1
    """
    try:
        from orcinus.serve.server import Binding, serve
        from orcinus.serve.service import Served
    except ImportError as error:
        raise ConfigError(f"the server needs {error.name}: pip install 'orcinus[serve]'") from None

    name = served_model_name or (str(config.model) if config.model else "orcinus-tiny")
    interrupt.raise_exception()
    asyncio.run(serve(config, Served(name, max_queue, timeout), Binding(host, port, drain)))
