"""Pictures of simulations say what they show: units, what varies, every metric, and how sure it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orcinus.core.view import Limits
from orcinus.observe.metrics import MetricsObserver
from orcinus.plots.runs import draw_runs
from orcinus.plots.sweep import SweepPoint, draw_sweep
from orcinus.sim.record import COLUMNS, label_of, unit_of
from tests.commands import orcinus


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were written."""
    figures: list[Any] = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: figures.append(figure))
    return figures


def labels(figure: Any) -> list[tuple[str, str]]:
    return [(place.get_xlabel(), place.get_ylabel()) for place in figure.axes if place.get_visible()]


def legend(figure: Any) -> tuple[str, list[str]]:
    (found,) = figure.legends
    return found.get_title().get_text(), [text.get_text() for text in found.get_texts()]


def bands(figure: Any) -> list[int]:
    return [len(place.collections) for place in figure.axes if place.get_visible()]


def test_every_metric_of_a_sweep_is_drawn_with_units_and_what_varies(drawn: list[Any], tmp_path: Path) -> None:
    few = ("--requests", "20", "--lengths", "orca", "--workers", "1", "--plot", str(tmp_path / "x.png"))
    vary = ("--vary", "policy=orca,stall-free", "--vary", "max_batch_size=4,8", "--vary", "rate=1,2")
    done = orcinus("sweep", *few, *vary, "--metrics", "ttft.p99,request_throughput,slot_use", "--seeds", "3")
    assert done.returncode == 0, done.stderr
    (figure,) = drawn
    assert labels(figure) == [
        ("rate (requests/s)", "time to first token, P99 (s)"),
        ("rate (requests/s)", "request throughput (requests/s)"),
        ("rate (requests/s)", "slot use (share)"),
    ]
    title, lines = legend(figure)
    assert title == "policy, max batch size; bands: 75% intervals of medians over 3 seeds"
    assert lines == ["orca, 4", "orca, 8", "stall-free, 4", "stall-free, 8"]
    assert bands(figure) == [4, 4, 4]


def test_runs_are_named_by_what_varies(drawn: list[Any], tmp_path: Path) -> None:
    few = ("--requests", "20", "--lengths", "orca", "--plot", str(tmp_path / "x.png"))
    assert orcinus("simulate", *few, "--policy", "orca,stall-free", "--order", "fcfs,fair").returncode == 0
    assert orcinus("simulate", *few, "--paper", "orca", "--seeds", "5").returncode == 0
    several, seeds = drawn
    assert legend(several) == ("policy, order", ["orca, fcfs", "orca, fair", "stall-free, fcfs", "stall-free, fair"])
    assert legend(seeds) == ("paper; bands: 94% intervals of medians over 5 seeds", ["orca"])
    assert bands(several) == [0] * 4
    assert bands(seeds) == [1] * 4
    for x, y in labels(several):
        assert x.endswith(("(s)", "(s/token)"))
        assert y.startswith("share of ")


@pytest.mark.parametrize("seeds", ["1", "3"])
def test_equal_values_are_an_upright_line(seeds: str, drawn: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n")
    command = ("simulate", "--lengths", f"trace:file={file}", "--seeds", seeds, "--plot", str(tmp_path / "x.png"))
    assert orcinus(*command).returncode == 0
    (figure,) = drawn
    for place in figure.axes:
        (line,) = place.lines
        assert (line.get_ydata()[0], line.get_ydata()[-1]) == (0, 1)
        assert max(line.get_xdata()) == pytest.approx(min(line.get_xdata()))


def test_long_names_of_runs_remain_apart(drawn: list[Any]) -> None:
    names = [f"stall-free:token_budget=128, priority:aging={aging}" for aging in (1, 2)]
    draw_sweep("x.png", [SweepPoint(name, 1.0, {"m": (1, 1, 1)}) for name in names], {"m": "m (s)"}, "rate (requests/s)")
    assert legend(drawn[0])[1] == names


def test_a_sweep_of_one_setting_needs_no_legend(drawn: list[Any]) -> None:
    points = [SweepPoint("", x, {"m": (x, x, x)}) for x in (1.0, 2.0)]
    draw_sweep("x.png", points, {"m": "m (s)"}, "rate (requests/s)")
    (figure,) = drawn
    assert figure.legends == []
    assert bands(figure) == [0]


def test_nothing_to_draw_is_an_empty_picture_and_no_error(drawn: list[Any]) -> None:
    draw_sweep("x.png", [], {"m": "m (s)"}, "rate (requests/s)")
    draw_sweep("x.png", [SweepPoint("a", 0.0, {})], {"m": "m (s)"}, "rate (requests/s)")
    draw_runs("x.png", [("a", [MetricsObserver(Limits(1, 1, 1))])])
    assert len(drawn) == 3


@pytest.mark.parametrize("metric", COLUMNS)
def test_every_metric_has_a_label_with_its_unit(metric: str) -> None:
    label = label_of(metric)
    assert label
    assert "_" not in label
    assert label.endswith(f"({unit_of(metric)})") == bool(unit_of(metric))


def test_labels_read_well() -> None:
    assert label_of("ttft.p99") == "time to first token, P99 (s)"
    assert label_of("tbt.max") == "time between tokens, max (s)"
    assert label_of("normalized_latency.mean") == "latency per generated token, mean (s/token)"
    assert label_of("kv.used") == "K/V memory, used (share)"
    assert label_of("fairness") == "fairness"
