"""`orcinus simulate`: a data centre on a laptop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orcinus.cli.evidence import CAUTION, print_evidence, print_lines
from orcinus.cli.labels import labels, varying
from orcinus.cli.options import takes_several
from orcinus.cli.progress import progress
from orcinus.cli.tidy import Csv, check_csv, write_csv
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig

if TYPE_CHECKING:
    from orcinus.observe.metrics import Served
    from orcinus.sim.outcome import SimulationOutcome

SEVERAL = ("model", "device", "software", "policy", "kv", "paper", "order", "router")  # may be lists, with commas between


@takes_several("configs", SimulationConfig, SEVERAL)
def simulate(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a run, in seconds and tokens.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the distributions of latencies to this file: .png, .svg or .pdf.")
    ] = None,
    requests_file: Annotated[
        Path | None, typer.Option(help="Write a JSON line for every request that was served to this file.")
    ] = None,
    csv: Csv = None,
    *,
    configs: Sequence[SimulationConfig],
) -> None:
    """Serve made-up requests with the real scheduler on simulated devices.

    --model, --device, --software, --policy, --kv, --paper, --order and --router may hold several names with commas between:
    each is simulated with the same requests. Example: `orcinus simulate --model gpt3-175b --device a100-40g --tp 8 --pp 2
    --paper orca,vllm,sarathi --lengths orca --arrivals poisson:rate=5`
    """
    from orcinus.cli import simulate_view as view
    from orcinus.plots.style import check_picture
    from orcinus.sim.record import config_record, outcome_record
    from orcinus.sim.simulate import set_up, workload_of
    from orcinus.sim.simulation import make_router
    from orcinus.workload.summary import statistics

    names = labels(configs, SEVERAL)
    if configs[0].record is not None and (len(configs) > 1 or configs[0].seeds > 1):
        raise ConfigError("--record takes the iterations of one run: simulate one, with a single seed")
    if plot is not None:
        check_picture(plot)
    check_csv(csv)
    make_router(configs[0].router)
    setups = [set_up(config) for config in configs]  # errors are raised before anything runs
    workload = workload_of(configs[0])
    stats = statistics(workload)
    console = Console(highlight=False)
    lines = _RequestLines(requests_file)
    if not as_json:
        console.print(view.heading(setups[0], stats), soft_wrap=True)
        print_lines(console, CAUTION, [*view.costs(setups), *workload.notes()])
    outcomes = _run(configs, names, stats.requests, lines)
    records = {
        name: {"run": name, "config": config_record(config), "workload": asdict(stats), **outcome_record(outcome)}
        for name, config, outcome in zip(names, configs, outcomes, strict=True)
    }
    if as_json:
        for record in records.values():
            print(json.dumps(record))
    else:
        view.print_tables(console, records)
        print_lines(console, CAUTION, view.over_seeds(configs[0].seeds))
        print_evidence(console, records)
    if csv is not None:
        write_csv(csv, view.rows(names, outcomes))
    if plot is not None:
        from orcinus.plots.runs import draw_runs

        seen = [[one.metrics for one in each.runs or (each,)] for each in outcomes]
        varies = varying(configs, SEVERAL) or ["paper" if configs[0].paper else "policy"]
        draw_runs(plot, list(zip(names, seen, strict=True)), view.legend(varies, configs[0].seeds))


def _run(
    configs: Sequence[SimulationConfig], names: Sequence[str], requests: int, file: _RequestLines
) -> list[SimulationOutcome]:
    """Simulate the runs one by one, with a bar for each."""
    from orcinus.sim.simulate import by_seed, together
    from orcinus.sim.simulate import simulate as run

    with file as lines, progress() as bars:
        outcomes = []
        for config, name in zip(configs, names, strict=True):
            runs = []
            for one in by_seed(config):
                label = name if config.seeds == 1 else f"{name}, seed {one.seed}"
                runs.append(run(one, on_served=lines.of(name, one.seed), watch=bars.bar(label, requests)))
            outcomes.append(together(runs))
        return outcomes


class _RequestLines:
    """Writes served requests as JSON lines, if there is a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        with self._writing():
            self._file = None if path is None else path.open("w", encoding="utf-8")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"cannot write {self._path}: {error.strerror or error}") from None

    def __enter__(self) -> _RequestLines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with self._writing():
                self._file.close()

    def of(self, run: str, seed: int) -> Any:
        """The callback for every served request of a run."""
        file = self._file
        if file is None:
            return None

        def write(served: Served) -> None:
            with self._writing():
                file.write(json.dumps({"run": run, "seed": seed, **asdict(served)}) + "\n")

        return write
