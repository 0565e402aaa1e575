"""`orcinus serve`: an OpenAI-compatible server."""

from __future__ import annotations

from orcinus import interrupt
from orcinus.cli.options import takes, takes_engine
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.serve.config import ServerConfig


@takes("server", ServerConfig)
@takes_engine(names_model=True)
def serve(*, server: ServerConfig, config: EngineConfig) -> None:
    """Serve the model over HTTP, with the endpoints of the OpenAI API.

    Example: `orcinus serve --port 8000`, then point any OpenAI client at http://127.0.0.1:8000/v1
    """
    try:
        from orcinus.serve.server import run
    except ImportError as error:
        raise ConfigError(f"the server needs {error.name}: pip install 'orcinus[serve]'") from None

    interrupt.raise_exception()
    run(config, server)
