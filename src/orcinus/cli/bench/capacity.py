"""`orcinus bench capacity`: the highest rate that keeps latency objectives, measured."""

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
from orcinus.core.slo import capacity_slo


@takes("load", LoadConfig, arrivals="poisson:rate=1", repeats=1)
@takes("server", EndpointConfig)
@takes_several("configs", EngineConfig, SEVERAL, without=("record", *ADAPTERS))
def capacity(
    context: typer.Context,
    p99_tbt: Annotated[float | None, typer.Option(help="Seconds that 99 of 100 gaps between tokens may take at most.")] = None,
    p99_ttft: Annotated[float | None, typer.Option(help="Seconds that 99 of 100 first tokens may take at most.")] = None,
    median_ttft: Annotated[
        float, typer.Option(help="Seconds that half of the first tokens may take: more, and a queue grows.")
    ] = 2.0,
    tolerance: Annotated[float, typer.Option(help="How closely to find the rate, relative to it.")] = 0.1,
    first: Annotated[float, typer.Option(help="Requests per second to try first.")] = 1.0,
    out: Out = None,
    as_json: AsJson = False,
    *,
    configs: Sequence[EngineConfig],
    server: EndpointConfig,
    load: LoadConfig,
) -> None:
    """Find the highest request rate that keeps latency objectives, by bisection.

    It measures the engine or a server. The search is that of `orcinus capacity`, which simulates; every rate serves the same
    requests, only closer together.
    Example: `orcinus bench capacity --policy orca,stall-free --p99-tbt 0.05 --workload long-prompts`
    """
    from orcinus.bench.capacity import run_capacity

    check_out(out)
    slo = capacity_slo({"tbt.p99": p99_tbt, "ttft.p99": p99_ttft, "ttft.p50": median_ttft})
    with progress() as bars:
        systems, work = find_systems(context, configs, server, load, bars)
        result = run_capacity(systems, load, work, slo, first=first, tolerance=tolerance, bar=bars.bar)
    finish(result, out, as_json)
