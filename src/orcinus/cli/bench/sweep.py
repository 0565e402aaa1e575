"""`orcinus bench sweep`: latency against throughput."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from orcinus.bench.config import EndpointConfig, LoadConfig
from orcinus.cli.bench.out import AsJson, Out, check_out, finish
from orcinus.cli.bench.systems import SEVERAL, find_systems
from orcinus.cli.options import ADAPTERS, takes, takes_several
from orcinus.cli.progress import progress
from orcinus.config import EngineConfig


@takes("load", LoadConfig, arrivals="poisson:rate=1", repeats=3)
@takes("server", EndpointConfig)
@takes_several("configs", EngineConfig, SEVERAL, without=("record", *ADAPTERS))
def sweep(
    context: typer.Context,
    rates: Annotated[str, typer.Option(help="Requests per second to try, with commas between.")] = "1,2,4,8",
    out: Out = None,
    as_json: AsJson = False,
    *,
    configs: Sequence[EngineConfig],
    server: EndpointConfig,
    load: LoadConfig,
) -> None:
    """Measure the same requests at several rates, for every policy.

    The result is latency against throughput. On the engine in this process, or with --url on a server. Options that take
    several values in `orcinus bench offline` do so here. Example:
    `orcinus bench sweep --rates 2,4,8 --policy orca,stall-free --out sweep.json`
    """
    from orcinus.bench.sweep import read_rates, run_sweep

    check_out(out)
    chosen = read_rates(rates)
    with progress() as bars:
        systems, work = find_systems(context, configs, server, load, bars)
        result = run_sweep(systems, server.counted(load), work, chosen, bars.bar)
    finish(result, out, as_json)
