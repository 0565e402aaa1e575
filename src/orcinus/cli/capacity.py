"""`orcinus capacity`: the highest request rate that keeps latency objectives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orcinus import interrupt
from orcinus.cli.evidence import CAUTION, print_evidence, print_line, print_lines
from orcinus.cli.labels import labels
from orcinus.cli.options import takes_several
from orcinus.cli.progress import progress
from orcinus.cli.simulate import SEVERAL
from orcinus.cli.tidy import Csv, check_csv, column, write_csv
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig

if TYPE_CHECKING:
    from orcinus.core.slo import SLO
    from orcinus.sim.capacity import Capacity

WIDTH = 110  # characters of a line without the name of its run


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
    csv: Csv = None,
    *,
    configs: Sequence[SimulationConfig],
) -> None:
    """Find the highest request rate that keeps latency objectives, by bisection.

    It simulates a cluster. Every rate serves the same requests, only closer together. Options that take several names in
    `orcinus simulate` do so here; the searches run in parallel, one on each core. Example:
    `orcinus capacity --policy orca,prefill-first,stall-free --p99-tbt 0.1`
    """
    from orcinus.cli.simulate_view import costs, over_seeds
    from orcinus.core.slo import capacity_slo
    from orcinus.sim.capacity import capacity_record, together
    from orcinus.sim.parallel import in_parallel
    from orcinus.sim.record import config_record
    from orcinus.sim.simulate import by_seed, set_up, workload_of
    from orcinus.workload.summary import statistics

    if configs[0].record is not None:
        raise ConfigError("--record takes the iterations of one run: use orcinus simulate")
    if configs[0].price is not None:
        raise ConfigError("--price is of one run: give it to orcinus simulate, at the capacity found")
    check_csv(csv)
    slo = capacity_slo({"tbt.p99": p99_tbt, "ttft.p99": p99_ttft, "scheduling_delay.p50": median_delay})
    setups = [set_up(config) for config in configs]
    workload = workload_of(configs[0])
    statistics(workload)  # it reads a trace, and so knows what was skipped
    interrupt.raise_exception()  # so that other processes end too
    searches = [one for config in configs for one in by_seed(config)]
    runs: list[Capacity] = []
    with progress() as bars:
        done = bars.bar("searches", len(searches))
        for one in in_parallel(partial(_search, slo=slo, tolerance=tolerance, first=first), searches):
            runs.append(one)
            done(len(runs))
    seeds = configs[0].seeds
    found = [together(runs[place : place + seeds]) for place in range(0, len(runs), seeds)]
    names, records = labels(configs, SEVERAL), [capacity_record(one) for one in found]
    if as_json:
        for name, config, setup, record in zip(names, configs, setups, records, strict=True):
            origins = [asdict(origin) for origin in setup.machine.origins]
            about = {"run": name, "config": config_record(config), "costs": origins, "notes": workload.notes()}
            print(json.dumps(about | record))
    else:
        console = Console(highlight=False)
        print_lines(console, CAUTION, [*costs(setups), *workload.notes()])
        _print(console, names, records)
        print_lines(console, CAUTION, over_seeds(configs[0].seeds))
        print_evidence(console, dict(zip(names, records, strict=True)))
    if csv is not None:
        write_csv(csv, [row for name, record in zip(names, records, strict=True) for row in _rows(name, record)])


def _search(config: SimulationConfig, slo: SLO, tolerance: float, first: float) -> Capacity:
    from orcinus.sim.capacity import find_capacity

    return find_capacity(config, slo, tolerance=tolerance, first=first)


def _rows(name: str, record: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every tried rate, with the capacity found."""
    found = {"capacity_requests_per_s": record["rate"]}
    found |= {f"capacity_{end}_requests_per_s": record[end] for end in ("low", "high") if end in record}
    units = {"rate": "requests/s", **dict.fromkeys(("p99_tbt", "p99_ttft", "median_delay"), "s")}
    return [
        {"run": name} | {column(key, units.get(key, "")): value for key, value in trial.items()} | found
        for trial in record["trials"]
    ]


def _print(console: Console, names: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
    """Print a line for every run.

    A doubted capacity has a question mark.
    """
    if not console.is_terminal:  # a pipe is as wide as necessary
        console = Console(width=WIDTH + max(map(len, names)), highlight=False)
    table = Table(box=None, header_style="bold")
    seeds = "rates" in found[0]
    for title in (
        "",
        "requests/s",
        *["interval"] * seeds,
        "of the first",
        "P99 TBT",
        "P99 TTFT",
        "median delay",
        "rates tried",
    ):
        table.add_column(title, justify="left" if not title else "right", overflow="fold")
    for name, one in zip(names, found, strict=True):
        best = next((trial for trial in one["trials"] if trial["rate"] == one["rate"]), None)
        times = [_ms(best[key]) if best else "-" for key in ("p99_tbt", "p99_ttft", "median_delay")]
        ratio = f"{one['rate'] / found[0]['rate']:.2f}x" if found[0]["rate"] else "-"
        interval = [f"{one['low']:.3g} to {one['high']:.3g}"] if seeds else []
        doubted = "?" if one["doubts"] else ""
        table.add_row(name, f"{one['rate']:.3g}{doubted}", *interval, ratio, *times, str(len(one["trials"])))
    console.print(table)
    for name, one in zip(names, found, strict=True):
        for line in one["missed"]:
            print_line(console, "0:", line if len(names) == 1 else f"{name}: {line}")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.0f} ms"
