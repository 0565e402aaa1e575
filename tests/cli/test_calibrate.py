"""`orcinus calibrate` on the real engine, and simulations of the machine that it found."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM
from orcinus.calibrate import IterationSampler, design, in_random_order
from orcinus.core.batch import Batch, Chunk
from orcinus.core.unserved import Reason, Unserved
from orcinus.core.view import Limits
from orcinus.cost.calibration import read_calibration
from orcinus.cost.fitted import IterationSample
from tests.commands import orcinus

NONE_WAITS = Unserved({}, Reason.NOT_CHOSEN, 0, 1, 9)
MEASURING, COMMAND = import_module("orcinus.calibrate"), import_module("orcinus.cli.calibrate")
FEW = ("--requests", "20", "--lengths", "uniform:low=4:high=60,uniform:low=1:high=20")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[IterationSample]]:
    """The file of a short calibration, and its iterations; reference runs come before and after all others."""
    path = tmp_path_factory.mktemp("calibration") / "here.json"
    engine = ("--max-batch-size", "3", "--max-model-len", "256", "--num-blocks", "90", "--dtype", "float32")
    kept = list[IterationSample]()
    halves, run_reference, measure = iter(([0.001] * 5, [0.002] * 5)), MEASURING._reference, MEASURING._measure

    def reference(*arguments: Any) -> list[float]:
        run_reference(*arguments)
        return next(halves)

    def keep(llm: LLM, found: IterationSampler, *rest: Any) -> list[float]:
        seconds: list[float] = measure(llm, found, *rest)
        kept.extend(found.found)
        return seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MEASURING, "_reference", reference)
        patch.setattr(MEASURING, "_measure", keep)
        done = orcinus("calibrate", *engine, "--seconds", "2", "--in-doubt", "-o", str(path))
    assert done.returncode == 0, done.stderr
    assert "the bundled model in float32 on " in done.stdout
    assert f"orcinus simulate --device {path}" in done.stdout.replace("\n", " ")
    doubts = read_calibration(path).doubts
    assert done.stdout.count("! In doubt: ") == len(doubts)
    assert doubts[-1] == "the same iteration took 1.00 ms at one time and 2.00 ms at another"
    return str(path), kept


@pytest.fixture(scope="module")
def file(calibrated: tuple[str, list[IterationSample]]) -> str:
    return calibrated[0]


def test_the_file_says_what_was_measured(file: str) -> None:
    found = read_calibration(Path(file))
    assert (found.dtype, found.num_blocks, found.block_size) == ("float32", 90, 16)
    assert (found.limits.max_batch_size, found.limits.max_model_len) == (3, 256)
    assert found.cost.iterations >= 200
    assert found.cost.seconds["iteration"] + found.cost.seconds["token"] > 0


def test_a_simulation_of_it(file: str) -> None:
    done = orcinus("simulate", "--device", file, *FEW, "--arrivals", "poisson:rate=50", "--policy", "orca,sarathi")
    assert done.returncode == 0, done.stderr
    assert "the bundled model on 1 x " in done.stdout
    assert "fitted on " in done.stdout
    assert f"K/V memory {90 * 16} tokens" in done.stdout
    done = orcinus("simulate", "--device", file, *FEW, "--arrivals", "all-at-once", "--json")
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert record["endings"] == {"length": 20}
    assert record["mean_batch_size"] <= 3
    assert record["weights_bytes_per_device"] is None


def test_lower_limits_and_other_memory_can_be_simulated(file: str, tmp_path: Path) -> None:
    kept = tmp_path / "record.jsonl"
    changed = ("--max-batch-size", "1", "--num-blocks", "200", "--block-size", "8", "--record", str(kept))
    done = orcinus("simulate", "--device", file, *FEW, *changed)
    assert "K/V memory 1600 tokens" in done.stdout
    header = json.loads(kept.read_text().splitlines()[0])
    assert (header["block_size"], header["num_blocks"], header["limits"]["max_batch_size"]) == (8, 200, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "gpt3-175b"), "says what it was measured on: leave out --model"),
        (("--tp", "2"), "leave out --tp"),
        (("--pp", "2"), "leave out --pp"),
        (("--gpu-memory-utilization", "0.5"), "leave out --gpu-memory-utilization"),
        (("--max-batch-size", "4"), "a max_batch_size of 3, which says nothing about 4: calibrate with --max-batch-size 4"),
        (("--max-model-len", "512"), "calibrate with --max-model-len 512"),
    ],
)
def test_what_a_calibration_cannot_tell(file: str, arguments: tuple[str, ...], said: str) -> None:
    done = orcinus("simulate", "--device", file, *FEW, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "here.txt"), "ends with .json"),
        (("-o", "no/such/folder/here.json"), "cannot write no/such/folder/here.json"),
        (("--max-batch-size", "1", "--in-doubt"), "calibrate with --max-batch-size 2 or more"),
        (("--max-batch-size", "2", "--max-model-len", "23", "--in-doubt"), "calibrate with --max-model-len 24 or more"),
    ],
)
def test_what_cannot_be_calibrated(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = orcinus("calibrate", "--seconds", "1", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def measured(calibrated: tuple[str, list[IterationSample]]) -> Iterator[tuple[LLM, list[IterationSample]]]:
    """A small engine, and the iterations of a short calibration."""
    with LLM(max_batch_size=2, max_model_len=256, num_blocks=40, dtype="float32") as llm:
        yield llm, calibrated[1]


QUIET, UNEVEN = [0.003] * 10, [0.003] * 5 + [0.009] * 5
OTHERS, UNKNOWN = "other processes took 1.2 of 2 cores", "unknown"


@pytest.mark.parametrize(
    ("load", "others", "reference", "said"),
    [
        (999.0, None, QUIET, []),  # what ran before it does not matter
        (0.5, None, [0.003] * 9 + [0.03], []),  # one that was disturbed among ten
        (0.5, OTHERS, QUIET, [f"{OTHERS} while it was measured"]),
        (0.5, None, UNEVEN, ["the same iteration took 3.00 ms at one time and 9.00 ms at another"]),
        (999.0, OTHERS, UNEVEN, [f"{OTHERS} while it was measured", "the same iteration"]),
        (999.0, UNKNOWN, QUIET, ["load average up to 999.0 on "]),
        (0.5, UNKNOWN, QUIET, []),
    ],
)
def test_a_busy_machine_is_in_doubt(
    measured: tuple[LLM, list[IterationSample]],
    load: float,
    others: str | None,
    reference: list[float],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the iterations of a real calibration, whatever the machine did meanwhile."""
    llm, iterations = measured

    def measure(llm: LLM, found: IterationSampler, *rest: Any) -> list[float]:
        found.found.extend(iterations)
        return reference

    monkeypatch.setattr(MEASURING, "load_average", lambda: load)
    if others == UNKNOWN:
        monkeypatch.setattr(MEASURING, "cpu_times", lambda: None)
    monkeypatch.setattr(MEASURING, "taken", lambda *_: others)
    monkeypatch.setattr(MEASURING, "_measure", measure)
    found = MEASURING.calibrate(llm, 0.1)
    assert len(found.doubts) == len(said)
    assert all(doubt.startswith(words) for doubt, words in zip(found.doubts, said, strict=True))


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_busy_machine_is_refused(when: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doubted = replace(read_calibration(Path(file)), doubts=(f"{OTHERS} while it was measured",))
    monkeypatch.setattr(COMMAND, "taken_now", lambda seconds: OTHERS if when == "before" else None)
    monkeypatch.setattr(MEASURING, "calibrate", lambda *_: doubted)
    monkeypatch.setattr(COMMAND, "engine", nullcontext)
    path = tmp_path / "here.json"
    done = orcinus("calibrate", "--max-batch-size", "2", "--num-blocks", "40", "-o", str(path))
    assert done.returncode == 1
    assert OTHERS in done.stderr
    assert "calibrate on a quiet machine, or give --in-doubt" in done.stderr
    assert ("nothing was measured" if when == "before" else "nothing was written") in done.stderr
    assert not path.exists()


def test_a_doubt_is_in_the_file_and_in_every_simulation_of_it(file: str, tmp_path: Path) -> None:
    doubted = tmp_path / "busy.json"
    replace(read_calibration(Path(file)), doubts=("other processes took 1.2 of 2 cores while it was measured",)).write(doubted)
    done = orcinus("simulate", "--device", str(doubted), *FEW, "--arrivals", "poisson:rate=50")
    assert "the calibration is in doubt: other processes took 1.2 of 2 cores while it was measured" in done.stdout


@pytest.mark.parametrize("name", ["missing.json", "other.json"])
def test_a_device_that_is_no_calibration(name: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    done = orcinus("simulate", "--device", str(tmp_path / name), *FEW)
    assert done.returncode == 1
    assert "calibration" in done.stderr


def test_whole_prompts_are_measured_alone_together_and_after_a_pause(calibrated: tuple[str, list[IterationSample]]) -> None:
    """The iteration that reads them is the last one with work; it ends when the decodes behind it are launched."""
    whole = [each.work for each in calibrated[1] if each.work.prompts and not each.work.decodes]
    whole = [work for work in whole if work.samples == len(work.prompts) and not any(start for start, _ in work.prompts)]
    assert {len(work.prompts) > 1 for work in whole} == {True, False}
    assert any(work.paused for work in whole)
    assert any(not work.paused for work in whole)


def test_what_comes_after_a_pause_is_told_apart_from_what_comes_after_an_idle_engine() -> None:
    sampler = IterationSampler()
    for number, waits in enumerate((sampler.idle, sampler.pause, sampler.idle)):
        for at in range(3):
            sampler.on_batch(Batch(at, (Chunk("r", (0,) * (number + 1), 0),)), NONE_WAITS, 10.0 * number + at)
        waits()
    assert [(each.work.tokens, each.work.paused, each.seconds) for each in sampler.found] == [
        (1, False, 1.0), (1, False, 1.0), (2, False, 1.0), (2, False, 1.0), (3, True, 1.0), (3, False, 1.0),
    ]  # fmt: skip


def test_a_measurement_without_time_has_iterations_of_all_kinds(
    measured: tuple[LLM, list[IterationSample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MEASURING, "ENOUGH", 0)
    found = IterationSampler()
    measured[0].engine.observers.append(found)
    try:
        MEASURING._measure(measured[0], found, 0.0, None)
    finally:
        measured[0].engine.observers.remove(found)
    kinds = {(each.work.decodes > 0, min(len(each.work.prompts), 2), each.work.paused) for each in found.found}
    assert kinds >= {(True, 0, False), (True, 1, False), (False, 1, False), (False, 2, False), (False, 1, True)}


@pytest.mark.parametrize("seed", range(20))
def test_a_measurement_that_ends_early_has_cells_of_all_kinds(seed: int) -> None:
    cells = design(Limits(8, 1024, 2048), 1024)
    order = in_random_order(cells, random.Random(seed))
    assert sorted(map(repr, order)) == sorted(map(repr, cells))
    kinds = {cell.kind for cell in cells}
    assert len(kinds) == 5  # decodes alone, beside a prompt, a prompt alone, several prompts, and one after a pause
    assert {cell.kind for cell in order[: len(kinds)]} == kinds
    assert order != in_random_order(cells, random.Random(seed + 1))


@pytest.mark.parametrize("batch", [2, 3, 8, 64])
@pytest.mark.parametrize("length", [128, 2048])
@pytest.mark.parametrize("longest", [32, 1024])
def test_every_design_varies_what_costs(batch: int, length: int, longest: int) -> None:
    """Whatever the engine: generating alone, reading alone, both together; small and full batches; whole prompts and chunks."""
    limits = Limits(batch, batch * length, length)
    cells = [cell for cell in design(limits, longest) if cell.fits(limits, batch * length, 16)]
    assert {bool(cell.decodes) + 2 * bool(cell.prompts) for cell in cells} == {1, 2, 3}
    assert {1, batch - 1} <= {cell.decodes for cell in cells}
    assert any(cell.chunk < cell.length for cell in cells)
    assert any(cell.prompts and cell.chunk == cell.prompts * cell.length for cell in cells)
    assert len({cell.context for cell in cells if cell.decodes}) > 1
    assert any(cell.pause for cell in cells)
