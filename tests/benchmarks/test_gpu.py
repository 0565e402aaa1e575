"""The GPU benchmark: its sections run (as toys, on a CPU), none can cost another its figures, and its verdicts are right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from on_gpu.bench import Bench
from on_gpu.geometry import LLAMA, QWEN
from on_gpu.in_turn import OutOfTime, limited, run_section
from on_gpu.results import Results, State
from on_gpu.sections import SECTIONS, START_S, TOTAL_S, choose
from on_gpu.sizes import FULL, TOY
from on_gpu.supervise import supervise
from on_gpu.tables import text_table
from on_gpu.targets import TARGETS, target_rows

from orcinus.errors import ConfigError
from orcinus.runtime.kernels import available
from tests.product import part
from tests.waiting import within

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
FAKE = Path(__file__).parent / "fake_sections.py"

TESTED = [section.name for section in SECTIONS]


def start(*words: str) -> subprocess.CompletedProcess[str]:
    """The script as a user starts it, on a CPU."""
    variables = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "--device", "cpu", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)


# All of it, once


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A toy run of every section that can be tested, and its file."""
    out = tmp_path_factory.mktemp("gpu") / "toy.json"
    return start("--only", ",".join(TESTED), "--out", str(out), "--stretch", "4"), out  # a busy machine needs more


needs_triton = pytest.mark.skipif(not available(), reason="there is no triton to interpret the kernels")


@pytest.mark.full
@needs_triton
@pytest.mark.parametrize("name", TESTED)
def test_every_section_runs_on_a_cpu(ran: tuple[subprocess.CompletedProcess[str], Path], name: str) -> None:
    done, out = ran
    section = Results(out).sections[name]
    assert (section["state"], section["message"]) == ("done", ""), done.stdout + done.stderr
    assert section["tables"]
    assert all(rows for rows in section["tables"].values())


@pytest.mark.full
@needs_triton
def test_every_kernel_is_within_its_limit(ran: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    rows = Results(ran[1]).rows("kernels", "errors")
    kernels = {"philox", "rms_norm", "rope_kv", "act_mul", "argmax", "token_bitmask", "penalties", "sample", "attention"}
    assert {row["kernel"] for row in rows} == kernels
    assert all(row["within"] for row in rows), rows
    assert {row["kernel"]: row["limit"] for row in rows}["philox"] == 0, "every bit is the same"


@pytest.mark.full
@needs_triton
def test_torch_attends_to_the_same_data(ran: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    results = Results(ran[1])
    rows = results.rows("attention", "decodes") + results.rows("attention", "prompts")
    assert max(row["differs"] for row in rows) < 1e-5


@pytest.mark.full
@needs_triton
def test_a_toy_run_says_what_it_is_and_judges_nothing(ran: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = ran
    assert done.returncode == 0
    assert "the figures mean nothing" in done.stdout
    header = json.loads(out.read_text())["header"]
    assert header["toy"]
    assert header["torch"]
    assert header["command"].startswith("gpu.py --device cpu --only ceilings,")
    assert {row["verdict"] for row in target_rows(Results(out))} == {"toy: not measured"}


@pytest.mark.full
@needs_triton
def test_what_the_file_has_is_not_run_again_unless_it_is_asked_for(
    ran: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "copy.json"
    out.write_bytes(ran[1].read_bytes())
    before = json.loads(out.read_text())["sections"]
    assert "==" not in start("--only", "ceilings,kernels", "--out", str(out)).stdout
    assert json.loads(out.read_text())["sections"] == before
    again = start("--only", "ceilings", "--out", str(out), "--again").stdout
    after = json.loads(out.read_text())["sections"]
    assert "== ceilings" in again
    assert after["ceilings"]["facts"] != before["ceilings"]["facts"]
    assert after["kernels"] == before["kernels"]


CUT = "cut after its {} s: what was measured until then is kept"


def test_a_section_that_takes_too_long_is_cut_and_keeps_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long(bench: Bench) -> None:
        bench.row("errors", kernel="philox")
        work_that_survives_every_error()

    results = Results(tmp_path / "cut.json")
    for name, run in (("kernels", long), ("fused", lambda bench: bench.fact("faster", 2))):
        monkeypatch.setitem(sys.modules, f"on_gpu.{name}", SimpleNamespace(run=run))
        run_section(choose(name)[0], results, torch.device("cpu"), 0.01, 1)
    found = {name: (section["state"], section["message"]) for name, section in Results(results.file).sections.items()}
    assert found == {"kernels": ("cut", CUT.format(1)), "fused": ("done", "")}
    assert results.rows("kernels", "errors") == [{"kernel": "philox"}]


@pytest.mark.full
@needs_triton
def test_sections_that_take_too_long_are_cut_in_their_process(tmp_path: Path) -> None:
    out = tmp_path / "cut.json"
    done = start("--only", "kernels,fused", "--out", str(out), "--stretch", "0.01")
    found = {name: (section["state"], section["message"]) for name, section in Results(out).sections.items()}
    assert found == {"kernels": ("cut", CUT.format(1)), "fused": ("cut", CUT.format(0))}, done.stdout + done.stderr
    assert done.returncode == 0


# One section must not cost another its figures


@pytest.fixture
def run_fakes(tmp_path: Path) -> Callable[..., Results]:
    """`supervise` with processes that have habits."""

    def go(**habits: str) -> Results:
        results = Results(tmp_path / "results.json")
        words = [sys.executable, str(FAKE), str(results.file), json.dumps(habits)]
        supervise(choose("ceilings,tune,fused,golden"), results, lambda names: [*words, *names], grace_s=0.3)
        return results

    return go


@pytest.mark.parametrize("name", part("fused", full=["ceilings", "golden"]))
def test_a_process_that_dies_is_replaced(run_fakes: Callable[..., Results], name: str) -> None:
    sections = run_fakes(**{name: "dies"}).sections
    assert {each: section["state"] for each, section in sections.items()} == {
        each: "failed" if each == name else "done" for each in ("ceilings", "tune", "fused", "golden")
    }
    assert sections[name]["message"] == "its process ended with status 139"


def test_a_process_that_hangs_is_ended(run_fakes: Callable[..., Results]) -> None:
    with within(30):
        sections = run_fakes(tune="hangs").sections
    assert sections["tune"]["message"] == "did not stop 0 s after its time: its process was ended"
    assert [sections[name]["state"] for name in ("ceilings", "fused", "golden")] == ["done"] * 3


def test_a_process_that_never_begins_is_not_started_for_ever(run_fakes: Callable[..., Results]) -> None:
    sections = run_fakes(ceilings="dies before it begins").sections
    assert sections["ceilings"]["state"] == "failed"
    assert sections["tune"]["state"] == "done"


def test_wrong_input_ends_the_run(run_fakes: Callable[..., Results]) -> None:
    with pytest.raises(ConfigError, match="no section was run"):
        run_fakes(ceilings="refuses")


def test_time_runs_out_in_whatever_is_running() -> None:
    """An engine keeps the errors of an iteration to itself; this one it must not keep."""
    with pytest.raises(OutOfTime), limited(0.05):
        work_that_survives_every_error()


def work_that_survives_every_error() -> None:
    try:
        time.sleep(5)
    except Exception:
        pytest.fail("it was kept")


# Which sections, and in how long


def test_all_sections_together_take_less_than_seven_minutes() -> None:
    assert sum(section.share_s for section in SECTIONS) + START_S <= TOTAL_S
    assert TOTAL_S == 420


def test_every_section_has_a_module_of_its_name() -> None:
    for section in SECTIONS:
        text = (SCRIPT.parent / "on_gpu" / f"{section.name}.py").read_text()
        assert "\ndef run(bench: Bench) -> None:" in text


def test_sections_are_chosen_by_name_and_listed() -> None:
    assert [section.name for section in choose("fused, ceilings")] == ["ceilings", "fused"]
    with pytest.raises(ConfigError, match="there is no section 'fusion': choose among ceilings, "):
        choose("fused,fusion")
    assert "fused        30 s" in start("--list").stdout


@pytest.mark.full
def test_without_a_device_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "none.json")]
    hidden = os.environ | {"PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=hidden)
    assert done.returncode == 2
    assert "torch sees no CUDA device: give --device cpu for toys" in done.stderr


# The file


def test_figures_of_two_devices_do_not_mix(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json")
    results.header = {"device": "NVIDIA H200", "toy": False}
    results.check("anything", True)
    results.end("ceilings", "done", "")
    results.check("NVIDIA H200", False)
    with pytest.raises(ConfigError, match="holds results of NVIDIA H200, this is CPU: give another --out"):
        results.check("CPU", True)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"header": {}}'):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(ConfigError, match="holds no results of this benchmark"):
            Results(tmp_path / "r.json")


def test_the_file_is_json_whatever_was_measured(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json")
    results.begin("kernels", 0.0, None)["tables"]["errors"] = [{"error": inf, "limit": nan, "more": (1.5, [inf])}]
    results.write()
    rows = Results(tmp_path / "r.json").rows("kernels", "errors")
    assert rows == [{"error": None, "limit": None, "more": [1.5, [None]]}]
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_failed_sections_are_tried_again(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json")
    states: dict[str, State] = {"ceilings": "done", "kernels": "failed", "tune": "cut", "fused": "running"}
    for name, state in states.items():
        results.end(name, state, "")
    results.forget(["ceilings", "kernels", "fused"], ended_too=False)
    assert list(results.sections) == ["ceilings", "tune"]
    results.forget(["ceilings"], ended_too=True)
    assert list(results.sections) == ["tune"]


# Verdicts and tables


def measured(
    tmp_path: Path, section: str, table: str, rows: list[dict[str, Any]], state: State = "done"
) -> dict[str, dict[str, Any]]:
    """The verdicts on a single table, by the beginning of their targets."""
    results = Results(tmp_path / "r.json")
    results.begin(section, 0.0, None)["tables"][table] = rows
    results.end(section, state, "")
    return {row["target"].split(":")[0].split(",")[0]: row for row in target_rows(results) if row["verdict"] != "not measured"}


def test_nothing_measured_is_nothing_met(tmp_path: Path) -> None:
    rows = target_rows(Results(tmp_path / "r.json"))
    assert len(rows) == len(TARGETS) == 5
    assert {row["verdict"] for row in rows} == {"not measured"}


@pytest.mark.parametrize(("share", "verdict", "reached"), [(0.81, "met", "2 of 2"), (0.79, "missed", "1 of 2")])
def test_the_worst_figure_decides(tmp_path: Path, share: float, verdict: str, reached: str) -> None:
    iterations = [(1, "graphs", 0.1), (256, "eager", 0.2), (64, "graphs", 0.9), (256, "graphs", share)]
    rows = [{"batch": batch, "mode": mode, "of_floor_share": each} for batch, mode, each in iterations]
    found = measured(tmp_path, "iteration", "decode iterations", rows)
    row = found["decode iterations"]
    assert (row["verdict"], row["reached_by"], row["measured"]) == (verdict, reached, f"{share:.1%}")


def test_short_contexts_and_small_models_are_not_judged(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"context": 512, "of_copy_share": 0.1}, {"context": 2048, "of_copy_share": 0.8}]
    rows.append({"context": 32_768, "note": "does not fit"})
    assert measured(tmp_path, "attention", "decodes", rows)["decode attention"]["verdict"] == "met"
    rows = [
        {"model": model, "mode": "graphs", "of_gemm_share": share}
        for model, share in (("Qwen3-0.6B", 0.1), ("Llama-3-8B", 0.6))
    ]
    assert measured(tmp_path, "iteration", "prompts", rows)["prompts of Llama-3-8B"]["verdict"] == "met"


def test_a_verdict_on_part_of_a_section_says_so(tmp_path: Path) -> None:
    rows = [{"context": 2048, "of_copy_share": 0.8}]
    states: tuple[State, ...] = ("cut", "failed")
    for state in states:
        verdict = measured(tmp_path, "attention", "decodes", rows, state)["decode attention"]["verdict"]
        assert verdict in ("met, but the section was cut", "met, but the section failed")
        assert verdict.endswith(state)


def test_the_workload_is_judged_by_its_runs_as_built(tmp_path: Path) -> None:
    runs = [("as built, greedy", 26_000, None), ("watched", 9000, 0.98), ("without overlap", 9000, None)]
    rows = [{"run": run, "tokens_per_s": rate, "busy_share": share} for run, rate, share in runs]
    results = Results(tmp_path / "r.json")
    results.begin("workload", 0.0, None)["tables"]["runs"] = rows
    results.end("workload", "done", "")
    verdicts = [(row["measured"], row["verdict"]) for row in target_rows(results) if row["target"].startswith("workload")]
    assert verdicts == [("98.0%", "met"), ("26,000", "met")]


def test_tables_show_shares_as_per_cent_and_gaps_as_dashes() -> None:
    rows: list[dict[str, Any]] = [
        {"model": "a", "of_floor_share": 0.815, "us": 12345.6},
        {"model": "long name", "of_floor_share": None, "note": "cut"},
    ]
    assert text_table("Some title", rows).splitlines() == [
        "Some title",
        "",
        "model      of floor share      us  note",
        "---------  --------------  ------  ----",
        "a                   81.5%  12,346  -",
        "long name               -       -  cut",
    ]


def test_an_empty_table_is_a_title() -> None:
    assert text_table("Nothing", []).startswith("Nothing\n")


# Geometry


def test_geometries_have_the_published_numbers() -> None:
    assert QWEN.weights_read == 596_049_920, "all parameters of Qwen3-0.6B, whose embedding is the head"
    assert LLAMA.weights_read + LLAMA.vocab * LLAMA.hidden == 8_030_261_248, "all parameters of Llama-3-8B"
    assert (QWEN.kv_numbers * 2, LLAMA.kv_numbers * 2) == (114_688, 131_072), "bytes of a token in 16 bits"


def test_model_flops_are_two_for_each_weight_and_token_and_four_for_each_pair() -> None:
    assert LLAMA.flops(1, 0, 1) == 2 * (LLAMA.weights_read - LLAMA.hidden * 65)
    assert LLAMA.flops(0, 10, 0) == 4 * 10 * 32 * 4096


def test_toys_are_small_and_the_full_sizes_are_those_of_the_targets() -> None:
    assert TOY.dtype == "float32", "the interpreter knows no bfloat16"
    assert {64, 256} <= set(FULL.iteration_batches)
    assert 2048 in FULL.contexts
    assert (FULL.workload.requests, FULL.workload.prompts, FULL.workload.outputs) == (256, (100, 1024), (100, 1024))
    assert set(FULL.groups) == set(range(1, 9))
