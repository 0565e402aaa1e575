"""The script that makes docs/accuracy.md, on profiles whose errors are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import accuracy
import pytest
from fit_costs import COLUMNS, LINEARS, bytes_moved, widths

from orcinus.cost.collectives import all_reduce_seconds, send_recv_seconds
from orcinus.cost.device_file import find_device
from orcinus.cost.linear import elementwise_seconds, linear_seconds
from orcinus.cost.network_file import find_network
from orcinus.errors import ConfigError

SIZES = {"n_head": 8, "n_kv_head": 8, "n_embd": 512, "n_expanded_embd": 1024, "use_gated_mlp": "True"}


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("w", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def profile(data: Path, folder: str, device: str, factor: float) -> None:
    """A profile of kernels that take `factor` times as long as the cost model says."""
    rows = []
    for tokens in (1, 128, 512):
        row = {**SIZES, "num_tokens": tokens, "num_tensor_parallel_workers": 1}
        text = {name: str(value) for name, value in row.items()}
        spec = find_device(device)
        times = {name: linear_seconds(spec, tokens, k, n) for name, (k, n) in widths(text).items()}
        for name, size in bytes_moved(text).items():
            times |= dict.fromkeys(COLUMNS[name], elementwise_seconds(spec, size, name))
        rows.append(row | {f"time_stats.{name}.median": 1e3 * factor * seconds for name, seconds in times.items()})
    write(data / folder / "Toy-mlp.csv", rows)


def line_of(text: str, *cells: str) -> list[str]:
    """The cells behind these first ones, in the only line of the page that begins with them."""
    (found,) = (line for line in text.splitlines() if line.startswith(f"| {' | '.join(cells)} |"))
    return [cell.strip() for cell in found.split("|")[1 + len(cells) : -1]]


def test_errors_of_operators_by_device_and_kind(tmp_path: Path) -> None:
    profile(tmp_path, "a100", "a100-80g", factor=1.25)
    profile(tmp_path, "strange", "h100", factor=0.8)
    text = accuracy.page(tmp_path, [], None, {"strange": "h100"}, {})
    for kind in (*(f"linear: {name}" for name in LINEARS), "all four linears", "add", "rope"):
        assert line_of(text, "a100-80g", "Toy", kind)[:4] == ["3", "20.0%", "20.0%", "-20.0%"]
    assert line_of(text, "h100", "Toy", "norm")[:4] == ["6", "25.0%", "25.0%", "+25.0%"]  # two norms in a layer
    assert line_of(text, "a100-80g", "Toy", "norm")[-1].startswith("fitted on a100")
    with pytest.raises(ConfigError, match="unknown device 'strange'"):
        accuracy.page(tmp_path, [], None, {}, {})


def test_errors_of_collectives_by_group_and_size(tmp_path: Path) -> None:
    network = find_network("a100-dgx")
    sizes = (2048, 2**18, 2**22, 2**26)
    reduced = [
        {
            "num_workers": workers,
            "devices_per_node": workers // nodes,
            "size": size,
            "time_stats.all_reduce.median": 2e3 * all_reduce_seconds(network, size, workers, nodes),
        }
        for workers, nodes in ((4, 1), (4, 2))
        for size in sizes
    ]
    sent = {"num_workers": 2, "devices_per_node": 1, "size": 2**22}
    write(tmp_path / "network" / "a100_dgx_all_reduce.csv", reduced)
    milliseconds = 1e3 * send_recv_seconds(network, 2**22, 1, across=True)
    write(tmp_path / "network" / "mine_send_recv.csv", [sent | {"time_stats.send_recv.median": milliseconds}])
    text = accuracy.page(tmp_path, [], None, {}, {"mine": "a100-dgx"})
    for group in ("4", "4 over 2 nodes"):
        for band, values in (("up to 64 KiB", "1"), ("up to 1 MiB", "1"), ("above 1 MiB", "2")):
            found = line_of(text, "a100_dgx", "a100-dgx", "all_reduce", group, band)
            assert found[:4] == [values, "50.0%", "50.0%", "-50.0%"]
    assert line_of(text, "mine", "a100-dgx", "send_recv", "2 over 2 nodes", "above 1 MiB")[1] == "0.0%"


def test_rows_of_papers_and_runs_of_a_machine(tmp_path: Path) -> None:
    def check(published: float | None, simulated: float | None) -> dict[str, float | None]:
        return {"published": published, "simulated": simulated}

    row = {"paper": "Orca", "number": 9, "experiment": "Fig. 10a", "device": "a100-40g", "scope": "run", "skipped": None}
    row |= {"calibrated": "nothing", "checks": [check(10.0, 12.0), check(10.0, 9.0), check(None, None)]}
    rows = [row, row | {"number": 0, "experiment": "Fig. 1", "scope": "saturation", "checks": [check(2.0, 1.0)]}]
    run = {"load": 0.9, "seed": 0, "real": [0.008], "before": [0.004], "after": [0.009], "during": [0.006]}
    machine = {"machine": "a processor", "model": "a model", "policy": "orca", "lengths": "orca", "seconds": 10}
    machine |= {"max_batch_size": 8, "metrics": [["ttft", 99]], "runs": [run, run | {"seed": 1, "real": [0.004]}]}
    profile(tmp_path, "a100", "a100-80g", factor=1.0)
    text = accuracy.page(tmp_path, json.loads(json.dumps(rows)), machine, {}, {})
    runs, saturated = text.split("## Near saturation")
    assert line_of(runs, "a100-40g", "Orca, Fig. 10a (row 9)") == ["2", "15.0%", "19.0%", "+5.0%", "nothing"]
    assert line_of(saturated, "a100-40g", "Orca, Fig. 1 (shown only)")[:2] == ["1", "50.0%"]
    assert line_of(text, "90%", "ttft p99") == ["6.00", "6.00", "1.12", "0.75 to 1.50", "1.12"]
