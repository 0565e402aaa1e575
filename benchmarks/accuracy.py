"""docs/accuracy.md: how far the simulator is off, from kernels to whole runs.

    python benchmarks/accuracy.py --data FOLDER [--rows rows.jsonl] [--machine runs.json] [--write docs/accuracy.md]

FOLDER has profiles in the format of Vidur's: `DEVICE/MODEL-mlp.csv` and `network/NETWORK_COLLECTIVE.csv`. Every profile there
is compared with the cost model as it is, also one of a device or cluster that it was never fitted to; `--device` and
`--network` say which of ours a folder or file is compared with, if its name does not. `--rows` takes the output of
`orcinus reproduce --json`, `--machine` that of `benchmarks/simulation_accuracy.py --out`; without them the page has no
iterations, runs, or machine of one's own. Without `--write` the page is printed.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from fit_costs import COLUMNS, bytes_moved, data_folder, median_of, rows_of, widths

from orcinus.cost.cluster import Cluster
from orcinus.cost.collectives import StageSend, all_reduce_seconds, send_recv_seconds
from orcinus.cost.device_file import find_device
from orcinus.cost.devices import DEVICES, DeviceSpec
from orcinus.cost.linear import elementwise_seconds, linear_seconds
from orcinus.cost.network_file import find_network
from orcinus.cost.networks import Network
from orcinus.cost.provenance import provenance_of, provenance_of_sends, provenance_of_sums
from orcinus.errors import ConfigError
from orcinus.papers.simulated.experiment import Scope

KIB, MIB = 2**10, 2**20
BANDS = ((64 * KIB, "up to 64 KiB"), (MIB, "up to 1 MiB"), (float("inf"), "above 1 MiB"))  # of a message
COLLECTIVES = ("all_reduce", "send_recv")
NETWORK_OF = {  # of a profile: the cluster whose links it has
    "a100_dgx": "a100-dgx",
    "a100_pairs": "a100-nc96ads",
    "a40_pairs": "a40-bridges",
    "h100_dgx": "h100-dgx",
}
SCOPES = {
    Scope.ITERATION: "Iterations",
    Scope.RUN: "Runs from end to end",
    Scope.SATURATION: "Near saturation",
}
HEAD = """# How far the simulator is off

`python benchmarks/accuracy.py` makes this page from published profiles and papers; do not edit it. Errors are
(simulated - measured) / measured: *median* and *90th percentile* of their size, and *bias*, the median with its sign. The cost
model is fitted to few profiles; the column *constants* says where those of a line come from: *fitted* or *measured* on this
hardware (then the line shows how well the formula fits), *borrowed* from other hardware, or *derived* from a data sheet (then
it is a prediction). [simulator.md](simulator.md) says what to trust, [papers.md](papers.md) has every number of the papers.
"""
OTHERS = """## Beside other simulators

Each has other hardware, models and loads, so the figures show an order of magnitude, not a ranking. Most of them are given the
profile of the very device, model and software that they then predict; the lines of the papers above are predicted from
a data sheet, kernels of another model and a few constants of the serving system.

| simulator | published error | of what |
|---|---|---|
| Vidur (MLSys 2024) | under 9 % | latency of requests, each model and device profiled |
| Frontier (arXiv 2605.21312) | under 4 %; 6.4 %; 2.6 % | mean throughput; latency from end to end, co-located; disaggregated |
| BLIS | 11.8 %; 22.8 % | end-to-end latency; time to first token |
"""


class Comparison(NamedTuple):
    """One measured time and ours, in seconds."""

    measured: float
    simulated: float

    @property
    def error(self) -> float:
        return self.simulated / self.measured - 1


class Line(NamedTuple):
    """A line of a table: what is compared, by which constants, and the errors."""

    cells: tuple[str, ...]
    constants: str
    points: Sequence[Comparison]


# ---- operators ----


def device_of(folder: str, chosen: Mapping[str, str]) -> DeviceSpec:
    """The device that a folder of profiles is compared with. Raises `ConfigError` if none has its name."""
    names = (chosen.get(folder, folder), f"{folder}-80g")
    return find_device(next((name for name in names if name in DEVICES), names[0]))


def operator_lines(data: Path, chosen: Mapping[str, str]) -> Iterator[Line]:
    """A line for each kind of operator of each profile."""
    for file in sorted(data.glob("*/*-mlp.csv")):
        device, model = device_of(file.parent.name, chosen), file.name.removesuffix("-mlp.csv")
        basis = constants_of(device)
        for operator, points in operators(device, rows_of(file)).items():
            kind = "linear layers" if operator.startswith(("linear", "all four")) else "norms and activations"
            yield Line((device.name, model, operator), basis[kind], points)


def operators(device: DeviceSpec, rows: Iterable[dict[str, str]]) -> dict[str, list[Comparison]]:
    """Every measured operator beside the cost model, by kind; sizes that were measured twice count twice."""
    found: dict[str, list[Comparison]] = defaultdict(list)
    for row in rows:
        tokens = int(row["num_tokens"])
        products = {
            name: Comparison(median_of(row, name), linear_seconds(device, tokens, k, n)) for name, (k, n) in widths(row).items()
        }
        for name, both in products.items():
            found[f"linear: {name}"].append(both)
        sums = Comparison(*(sum(column) for column in zip(*products.values(), strict=True)))
        found["all four linears"].append(sums)
        for name, size in bytes_moved(row).items():
            seconds = elementwise_seconds(device, size, name)
            found[name] += [Comparison(median_of(row, column), seconds) for column in COLUMNS[name]]
    whole = {name: [both for both in points if not np.isnan(both.measured)] for name, points in found.items()}
    return {name: points for name, points in whole.items() if points}


def constants_of(device: DeviceSpec) -> dict[str, str]:
    """Where the constants of each kind of operator come from."""
    found = provenance_of(Cluster(device, find_network("pcie")), "default", curve=False)
    return {each.operators: f"{each.basis} {each.source}" for each in found}


# ---- collectives ----


def collective_lines(data: Path, chosen: Mapping[str, str]) -> Iterator[Line]:
    """A line for each profile, group of workers and band of sizes."""
    for collective in COLLECTIVES:
        for file in sorted(data.glob(f"network/*_{collective}.csv")):
            profile = file.name.removesuffix(f"_{collective}.csv")
            network = find_network(chosen.get(profile) or NETWORK_OF.get(profile, profile))
            for (workers, nodes), points in collectives(network, collective, rows_of(file)).items():
                group = f"{workers} over {nodes} nodes" if nodes > 1 else str(workers)
                basis = constants_between(network, collective, workers, nodes)
                for band, both in points.items():
                    yield Line((profile, network.name, collective, group, band), basis, both)


def collectives(
    network: Network, collective: str, rows: Iterable[dict[str, str]]
) -> dict[tuple[int, int], dict[str, list[Comparison]]]:
    """Every measured collective beside the cost model, by (workers, nodes) and band of sizes."""
    found: dict[tuple[int, int], dict[str, list[Comparison]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        workers, size = int(row["num_workers"]), int(row["size"])
        nodes = -(-workers // int(row["devices_per_node"]))
        if collective == "all_reduce":
            seconds = all_reduce_seconds(network, size, workers, nodes)
        else:
            seconds = send_recv_seconds(network, size, 1, across=nodes > 1)
        band = next(name for most, name in BANDS if size <= most)
        found[workers, nodes][band].append(Comparison(median_of(row, collective), seconds))
    return {key: dict(found[key]) for key in sorted(found)}


def constants_between(network: Network, collective: str, workers: int, nodes: int) -> str:
    """Where the constants of a collective come from."""
    send = StageSend(1, across=nodes > 1)
    sums = collective == "all_reduce"
    found = provenance_of_sums(network, workers, nodes) if sums else provenance_of_sends(network, send)
    return f"{found.basis} {found.source}"


# ---- papers ----


def paper_lines(rows: Iterable[Mapping[str, Any]], scope: Scope) -> Iterator[Line]:
    """A line for every experiment of a scope that has published numbers, from lines of `orcinus reproduce --json`."""
    for row in rows:
        numbers = [each for each in row["checks"] if each["published"] is not None]
        if row["scope"] == scope and numbers and not row["skipped"]:
            place = f"row {row['number']}" if row["number"] else "shown only"
            label = f"{row['paper']}, {row['experiment']} ({place})"
            points = [Comparison(each["published"], each["simulated"]) for each in numbers]
            yield Line((row["device"], label), row["calibrated"], points)


# ---- a machine of one's own ----


def machine_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A table of real runs beside their calibrated simulations."""
    runs = found["runs"]
    yield f"{found['machine']}; {found['model']}, policy `{found['policy']}`, lengths `{found['lengths']}`, in batches of up to"
    yield f"{found['max_batch_size']}; {len({run['seed'] for run in runs})} repetitions of {found['seconds']:g} s a load."
    yield "The simulated value is the geometric mean of calibrations before and after the run. The last column is simulated"
    yield "over real with the costs of the run's own iterations: the simulator's own error, whatever the machine did meanwhile."
    yield ""
    yield "| load | metric | real ms | simulated ms | simulated / real | least to most | by own costs |"
    yield "|---|---|---|---|---|---|---|"
    for load in dict.fromkeys(run["load"] for run in runs):
        of_load = [[run[side] for side in ("real", "before", "after", "during")] for run in runs if run["load"] == load]
        for place, (name, percentile) in enumerate(found["metrics"]):
            sides = [[figures[place] for figures in each] for each in of_load]
            pairs = [(real, (before * after) ** 0.5) for real, before, after, _ in sides]
            ratios = [ours / real for real, ours in pairs]
            own = median(during / real for real, _, _, during in sides)
            real, ours = (1e3 * median(column) for column in zip(*pairs, strict=True))
            cells = f"{real:.2f} | {ours:.2f} | {median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | {own:.2f}"
            yield f"| {load:.0%} | {name} p{percentile} | {cells} |"


# ---- the page ----


def table(heads: Sequence[str], lines: Iterable[Line]) -> Iterator[str]:
    """A table in Markdown, with the errors of each line."""
    columns = (*heads, "values", "median", "90th percentile", "bias", "constants")
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for line in lines:
        each = [both.error for both in line.points]
        sizes = np.abs(each)
        figures = (np.median(sizes), np.percentile(sizes, 90))
        cells = (*line.cells, str(len(each)), *(f"{value:.1%}" for value in figures), f"{np.median(each):+.1%}", line.constants)
        yield f"| {' | '.join(cells)} |"


def page(
    data: Path,
    rows: Sequence[Mapping[str, Any]],
    machine: Mapping[str, Any] | None,
    devices: Mapping[str, str],
    networks: Mapping[str, str],
) -> str:
    """The whole page in Markdown."""
    lines = [
        HEAD,
        "## Operators\n",
        "One GPU's kernels, of every tensor parallel degree and number of tokens in the profile.\n",
    ]
    lines += table(("device", "model", "operator"), operator_lines(data, devices))
    lines += ["\n## Collectives\n", "By size of the message. Times of small ones scatter by half in the profiles themselves.\n"]
    lines += table(("profile", "network", "collective", "devices", "message"), collective_lines(data, networks))
    for scope, heading in SCOPES.items():
        if rows:
            lines += [f"\n## {heading}\n", *table(("device", "experiment"), paper_lines(rows, scope))]
    if machine is not None:
        lines += ["\n## A machine of one's own, calibrated\n", *machine_lines(machine)]
    return "\n".join([*lines, "", OTHERS])


def chosen(given: Sequence[str]) -> dict[str, str]:
    """`PROFILE=NAME` options. Raises `ConfigError` for another form."""
    pairs = [each.partition("=") for each in given]
    if not all(name and ours for name, _, ours in pairs):
        raise ConfigError(f"say which of ours a profile is compared with as PROFILE=NAME, not {' '.join(given)}")
    return {name: ours for name, _, ours in pairs}


def read_lines(file: Path | None) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines."""
    return [] if file is None else [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def main() -> None:
    parser = argparse.ArgumentParser(description="Errors of the simulator, as a page.")
    parser.add_argument("--data", help="folder of profiles; default: ORCINUS_DATA")
    parser.add_argument("--device", action="append", default=[], metavar="FOLDER=DEVICE", help="of a folder of profiles")
    parser.add_argument("--network", action="append", default=[], metavar="PROFILE=NETWORK", help="of a profile of collectives")
    parser.add_argument("--rows", type=Path, help="output of orcinus reproduce --json")
    parser.add_argument("--machine", type=Path, help="output of benchmarks/simulation_accuracy.py --out")
    parser.add_argument("--write", type=Path, help="the file to write")
    options = parser.parse_args()
    data = data_folder(options.data)
    if not any(data.glob("*/*.csv")):
        parser.error(f"{data} has no profiles: give their folder with --data")
    machine = json.loads(options.machine.read_text(encoding="utf-8")) if options.machine else None
    text = page(data, read_lines(options.rows), machine, chosen(options.device), chosen(options.network))
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
