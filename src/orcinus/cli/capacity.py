"""`orcinus capacity`: the highest request rate that keeps promises about latency."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orcinus import interrupt
from orcinus.cli.labels import labels
from orcinus.cli.options import takes_several
from orcinus.cli.progress import progress
from orcinus.cli.simulate import SEVERAL
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig

if TYPE_CHECKING:
    from orcinus.sim.capacity import Capacity, Objectives


@takes_several("configs", SimulationConfig, SEVERAL)
def capacity(
    p99_tbt: Annotated[float | None, typer.Option(help="Seconds that 99 of 100 gaps between tokens may take at most.")] = None,
    p99_ttft: Annotated[float | None, typer.Option(help="Seconds that 99 of 100 first tokens may take at most.")] = None,
    median_delay: Annotated[
        float, typer.Option(help="Seconds that half of the requests may wait before they first run.")
    ] = 2.0,
    tolerance: Annotated[float, typer.Option(help="How closely to find the rate, relative to it.")] = 0.025,
    first: Annotated[float, typer.Option(help="Requests per second to try first.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a run, with all rates that were tried.")] = False,
    *,
    configs: Sequence[SimulationConfig],
) -> None:
    """Find the highest request rate at which a simulated cluster keeps its objectives, by bisection.

    Every rate serves the same requests, only closer together. Options that take several names in `orcinus simulate` do so
    here; the searches run in parallel, one on each core. Example:
    `orcinus capacity --policy orca,prefill-first,stall-free --p99-tbt 0.1`
    """
    from orcinus.sim.capacity import Objectives
    from orcinus.sim.parallel import in_parallel
    from orcinus.sim.record import config_record
    from orcinus.sim.run import set_up

    if configs[0].record is not None:
        raise ConfigError("--record takes the iterations of one run: use orcinus simulate")
    objectives = Objectives(p99_tbt, p99_ttft, median_delay)
    for config in configs:
        set_up(config)
    interrupt.raise_exception()  # so that other processes end too
    found = []
    with progress() as bars:
        done = bars.bar("searches", len(configs))
        for one in in_parallel(partial(_search, objectives=objectives, tolerance=tolerance, first=first), configs):
            found.append(one)
            done(len(found))
    names = labels(configs, SEVERAL)
    if as_json:
        for name, config, one in zip(names, configs, found, strict=True):
            print(json.dumps({"run": name, "config": config_record(config), **one}))
    else:
        _print(names, found)


def _search(config: SimulationConfig, objectives: Objectives, tolerance: float, first: float) -> dict[str, Any]:
    from orcinus.sim.capacity import find_capacity

    return _record(find_capacity(config, objectives, tolerance=tolerance, first=first))


def _record(found: Capacity) -> dict[str, Any]:
    trials = [
        {
            "rate": trial.rate,
            "kept": trial.kept,
            "p99_tbt": trial.outcome.metrics.tbt.percentile(99) if trial.outcome.metrics.tbt.count else None,
            "p99_ttft": trial.outcome.metrics.ttft.percentile(99) if trial.outcome.metrics.ttft.count else None,
            "median_delay": trial.outcome.metrics.scheduling_delay.percentile(50),
        }
        for trial in sorted(found.trials, key=lambda trial: trial.rate)
    ]
    return {"rate": found.rate, "trials": trials}


def _print(names: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, header_style="bold")
    for title in ("", "requests/s", "of the first", "P99 TBT", "P99 TTFT", "median delay", "rates tried"):
        table.add_column(title, justify="left" if not title else "right", overflow="fold")
    for name, one in zip(names, found, strict=True):
        best = next((trial for trial in one["trials"] if trial["rate"] == one["rate"]), None)
        times = [_ms(best[key]) if best else "-" for key in ("p99_tbt", "p99_ttft", "median_delay")]
        ratio = f"{one['rate'] / found[0]['rate']:.2f}x" if found[0]["rate"] else "-"
        table.add_row(name, f"{one['rate']:.3g}", ratio, *times, str(len(one["trials"])))
    Console(highlight=False).print(table)
    if not all(one["rate"] for one in found):
        Console(highlight=False).print("0: the objectives are kept at no rate.")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.0f} ms"
