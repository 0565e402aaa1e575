"""`orcinus bench serve`: load on a server."""

from __future__ import annotations

from typing import Annotated

import typer

from orcinus import interrupt
from orcinus.bench.config import EndpointConfig, LoadConfig
from orcinus.cli.bench.out import AsJson, Out, check_out, finish
from orcinus.cli.bench.systems import needs_client, print_notes
from orcinus.cli.options import takes
from orcinus.cli.progress import progress
from orcinus.errors import ConfigError


@takes("load", LoadConfig, arrivals="poisson:rate=2", repeats=1)
@takes("server", EndpointConfig)
def serve(
    model: Annotated[str | None, typer.Option(help="Model to ask for. Default: the only one that the server has.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give requests of equal lengths, at equal times.")] = 0,
    out: Out = None,
    as_json: AsJson = False,
    *,
    server: EndpointConfig,
    load: LoadConfig,
) -> None:
    """Measure any server of the OpenAI API with streamed requests.

    Requests arrive on their own schedule, as users' requests do. Requests are offered in an open loop (poisson, gamma,
    constant, ramp, a trace) or a closed one (closed:clients=8). The client says how late it was itself, and a run in which it
    was too late is called invalid.
    Example: `orcinus bench serve --url http://127.0.0.1:8000 --arrivals poisson:rate=4 --goodput ttft=0.5,tbt=0.05`
    """
    check_out(out)
    if server.url is None:
        raise ConfigError("say which server: --url http://127.0.0.1:8000")
    with needs_client():
        from orcinus.bench.server import run_server
    print_notes(load, seed)
    interrupt.raise_exception()
    with progress() as bars:
        result = run_server(server, load, model, seed, bars.bar)
    finish(result, out, as_json)
