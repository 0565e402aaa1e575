"""Orca's experiments come out as published, and their constants are those that the script fits."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from orcinus.cost.constants import read
from orcinus.cost.devices import DEVICES
from orcinus.cost.software import find_software
from orcinus.papers.published_orca import BATCH_MS, GENERATED, LOADED, MOST, SIZES
from orcinus.papers.simulated.experiment import Experiment
from orcinus.papers.simulated.orca import ROWS, batch_ms, figure_9, serve
from orcinus.sim.config import SimulationConfig
from orcinus.sim.simulate import set_up, simulate
from tests.product import part

SCRIPT = Path(__file__).parents[3] / "benchmarks/fit_orca.py"
BY_NUMBER = {row.number: row for row in ROWS}
ENGINES = ("orca", "fastertransformer")


@functools.cache
def script() -> ModuleType:
    """benchmarks/fit_orca.py as a module."""
    spec = importlib.util.spec_from_file_location("fit_orca", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_rows_are_those_of_the_acceptance_table() -> None:
    assert [row.number for row in ROWS] == [1, 2, 3, 4, 5, 6, 7, 9, 10, 13]
    assert {row.paper for row in ROWS} == {"Orca"}


@pytest.mark.parametrize(
    "row",
    part(BY_NUMBER[1], full=[BY_NUMBER[number] for number in (2, 3, 4, 9)]),
    ids=lambda row: f"row {row.number}",
)
def test_cheap_rows_pass(row: Experiment) -> None:
    failed = [check for check in row.run().comparisons if not check.passed]
    assert not failed


def test_every_bar_and_every_series_was_read() -> None:
    assert {engine: sum(len(row) for key, row in BATCH_MS.items() if key[1] == engine) for engine in ENGINES} == {
        "orca": 3 * 2 * len(SIZES),
        "fastertransformer": 2 * (3 + 4 + 4),
    }
    assert set(LOADED) == set(MOST)
    assert len(MOST) == 2 * 6
    for series, points in LOADED.items():
        assert max(rate for rate, _ in points) < MOST[series]


@pytest.mark.parametrize("engine", part("fastertransformer", full=["orca"]))
def test_the_constants_are_those_that_the_script_fits(engine: str) -> None:
    written, fitted = read(f"software/{engine}"), script().contents(engine)
    assert written["fitted_on"] == fitted["fitted_on"]
    assert written["device"] == fitted["device"]
    assert written["constants"] == pytest.approx(fitted["constants"], rel=2e-3)
    for row, errors in fitted["residuals"].items():
        assert written["residuals"][row] == pytest.approx(errors, abs=2e-4)


def test_one_set_of_three_constants_explains_all_bars_of_an_engine() -> None:
    for engine, most in (("orca", 0.05), ("fastertransformer", 0.03)):
        assert len(script().FITTED[engine]) == 3
        assert all(abs(error) < most for row in read(f"software/{engine}")["residuals"].values() for error in row)


@pytest.mark.parametrize("bar", [("13b", 32, 1), ("101b", 128, 8), ("175b", 128, 4)])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_script_sees_what_the_engine_does(engine: str, bar: tuple[str, int, int]) -> None:
    model, prompt, size = bar
    seconds = script().batch_seconds(bar, read(f"software/{engine}")["constants"])
    assert 1e3 * seconds == pytest.approx(batch_ms(model, engine, prompt, size))


@pytest.mark.parametrize(
    ("model", "device", "tp", "pp"),
    [("llama-33b", "a100-80g", 1, 1), ("gpt3-341b", "a100-40g", 8, 4), ("falcon-180b", "a100-80g", 8, 1)],
)
def test_on_other_models_a_token_takes_somewhat_longer_than_reading_the_weights(
    model: str, device: str, tp: int, pp: int
) -> None:
    config = SimulationConfig(
        model=model,
        device=device,
        tp=tp,
        pp=pp,
        software="orca",
        paper="orca",
        arrivals="all-at-once",
        lengths="fixed:tokens=1,fixed:tokens=20",
        requests=1,
    )
    setup = set_up(config)
    reading = pp * (setup.machine.weights or 0) / DEVICES[setup.config.device].bandwidth
    assert 1.1 * reading < simulate(config, setup=setup).metrics.span / 20 < 2 * reading


def test_a_lone_request_costs_fastertransformer_all_its_slots() -> None:
    alone, padded = (serve("101b", ("fastertransformer", slots), 0.01, 30).latency for slots in (1, 8))
    assert padded / alone == pytest.approx(41 / 33, rel=0.05)  # figure 10a at low load


def test_figure_9_shows_both_engines_and_both_prompts_twice() -> None:
    assert [len(panel.curves) for panel in figure_9().panels] == [8, 8, 8]
    for panel in figure_9().panels:
        for published, ours in zip(panel.curves[::2], panel.curves[1::2], strict=True):
            assert published.label == ours.label
            assert published.published > ours.published
            assert [x for x, _ in published.points] == [x for x, _ in ours.points]


def test_only_figure_9_has_no_scheduler() -> None:
    seconds = find_software("orca").iteration
    assert seconds > 0
    alone = batch_ms("175b", "orca", 32, 1) / GENERATED
    served = serve("175b", ("orca", 1), 0.001, 20).latency  # never two at a time
    assert served > alone + 2 * 1e3 * seconds  # two stages, and longer prompts
