"""`orcinus sweep` and `orcinus capacity`: many simulations in one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import orcinus

FEW = ("--requests", "40", "--lengths", "orca")


def test_a_sweep_is_a_row_for_every_combination(tmp_path: Path) -> None:
    plot = str(tmp_path / "sweep.svg")
    vary = ("--vary", "policy=orca,stall-free", "--vary", "rate=1,8")
    done = orcinus("sweep", *FEW, *vary, "--workers", "1", "--plot", plot, "--metrics", "e2e.p50,slot_use")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["policy", "rate", "e2e.p50", "slot_use"]
    assert [row[:2] for row in rows[1:]] == [["orca", "1.0"], ["orca", "8.0"], ["stall-free", "1.0"], ["stall-free", "8.0"]]
    assert float(rows[2][3]) > float(rows[1][3])
    assert Path(plot).read_text().startswith("<?xml")


def test_its_json_has_everything_and_impossible_points_say_why() -> None:
    done = orcinus("sweep", *FEW, "--vary", "tp=1,3", "--workers", "1", "--json")
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert good["ttft"]["p99"] > 0
    assert good["config"]["tp"] == 1
    assert "does not divide the 32 heads" in bad["error"]


def test_metrics_can_be_compared_with_those_of_one_setting() -> None:
    vary = ("--vary", "policy=request-level,sarathi", "--vary", "chunk_size=128,256", "--vary", "ratio=2,8")
    alike = ("--requests", "40", "--arrivals", "all-at-once", "--lengths", "pd:length=512", "--max-batch-size", "8")
    command = ("sweep", *alike, *vary, "--workers", "1", "--metrics", "request_throughput", "--against", "policy=request-level")
    plain, shown = orcinus(*command, "--json"), orcinus(*command)
    assert plain.returncode == 0, plain.stderr
    points = [json.loads(line) for line in plain.stdout.splitlines()]
    assert [point["config"]["lengths"] for point in points[:2]] == ["pd:ratio=2.0:length=512", "pd:ratio=8.0:length=512"]
    alone, chunked = points[:2], points[2:]
    assert [point["against"] for point in alone] == [{"request_throughput": 1}] * 2
    for number, point in enumerate(chunked):  # the base has no chunk size, so every size is compared with it
        gain = point["request_throughput"] / alone[number % 2]["request_throughput"]
        assert point["against"]["request_throughput"] == pytest.approx(gain)
    cells = [line.split()[-1] for line in shown.stdout.splitlines()[1:]]
    assert cells == [f"{point['against']['request_throughput']:.3g}" for point in points]


def test_a_base_that_is_impossible_leaves_nothing_to_compare_with() -> None:
    done = orcinus("sweep", *FEW, "--vary", "tp=1,3", "--workers", "1", "--metrics", "e2e.p50", "--against", "tp=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == ["1", "-"]


def test_processes_do_not_change_the_results() -> None:
    command = ("sweep", *FEW, "--vary", "rate=1,2", "--json", "--workers")
    alone, both = ([json.loads(line) | {"wall_seconds": 0} for line in orcinus(*command, n).stdout.splitlines()] for n in "12")
    assert alone == both


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing varies"),
        (("--vary", "rate"), "wants a setting and its values"),
        (("--vary", "colour=red"), "cannot sweep over 'colour'"),
        (("--vary", "tp=two"), "wants numbers, not 'two'"),
        (("--vary", "rate=1", "--metrics", "speed"), "there is no metric 'speed'"),
        (("--vary", "policy=orca", "--plot", "x.png"), "vary a number last"),
        (("--vary", "rate=1", "--plot", "x.jpeg2"), "must end in"),
        (("--vary", "rate=1", "--metrics", "ttft"), "there is no metric 'ttft'"),
        (("--vary", "rate=1", "--metrics", ""), "there is no metric ''"),
        (("--vary", "rate=1", "--record", "x"), "one run"),
        (("--vary", "rate=1", "--vary", "record=x"), "one run"),
        (("--vary", "ratio=2"), "the lengths 'sharegpt' have no ratio"),
        (("--vary", "rate=1,2", "--against", "rate=3"), "cannot compare with 'rate=3'"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = orcinus("sweep", "--requests", "3", "--workers", "1", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_capacity_keeps_the_promise_and_not_much_more_would() -> None:
    done = orcinus("capacity", *FEW, "--policy", "orca", "--p99-tbt", "0.05", "--tolerance", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = (json.loads(line) for line in done.stdout.splitlines())
    kept = [trial for trial in found["trials"] if trial["kept"]]
    lost = [trial for trial in found["trials"] if not trial["kept"]]
    assert found["rate"] == max(trial["rate"] for trial in kept)
    assert min(trial["rate"] for trial in lost) <= found["rate"] * 1.11
    assert all(trial["p99_tbt"] <= 0.05 for trial in kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--arrivals", "all-at-once"), "has no rate to vary"),
        (("--p99-tbt", "0"), "number of seconds above 0"),
        (("--tolerance", "0"), "tolerance between 0 and 1"),
        (("--model", "gpt3-175b"), "does not fit"),
        (("--max-model-len", "500"), "would be rejected: leave them out with --max-total 500"),
        (("--record", "x"), "one run"),
    ],
)
def test_a_capacity_that_cannot_be_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = orcinus("capacity", "--requests", "3", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_papers_can_be_swept_over() -> None:
    done = orcinus("sweep", *FEW, "--vary", "paper=orca,vllm", "--workers", "1", "--json")
    assert [json.loads(line)["config"]["kv"] for line in done.stdout.splitlines()] == ["reservation", "paged"]


def test_points_that_are_all_impossible_are_an_error() -> None:
    done = orcinus("sweep", *FEW, "--vary", "tp=3,5", "--workers", "1")
    assert done.returncode == 1
    assert "tp=3: tp=3 does not divide the 32 heads" in done.stdout


def test_metrics_that_a_point_has_not_are_a_dash() -> None:
    layout = ("--model", "llama-2-7b", "--vary", "pp=1,2")
    done = orcinus("sweep", *FEW, *layout, "--metrics", "bubbles.p50,rejected", "--workers", "1")
    assert [line.split()[1] == "-" for line in done.stdout.splitlines()[1:]] == [True, False]
