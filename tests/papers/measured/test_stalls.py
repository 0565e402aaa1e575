"""Generation stalls: a toy run of the real model, and what is said of made-up runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orcinus.bench.record import Repeat
from orcinus.bench.result import Result
from orcinus.papers.measured.stalls import Stalls, longest_gap
from orcinus.papers.measured.study import read_study, run_study
from tests.papers.measured.made_up import iterations, repeat, request, result, side

TOY = Stalls(places=2, short=4, answer=8, long=64, last=2, budget=8, requests=8)


@pytest.mark.full  # test_command.py runs one
def test_a_toy_run_measures_every_system_with_the_same_requests() -> None:
    found = run_study(TOY, None, 2)
    assert found.complete
    assert found.kind == "papers"
    assert found.work.requests == 8
    assert [each.name for each in found.sides] == ["prefill-first", "orca", "sarathi", "stall-free"]
    assert all(len(each.repeats) == 2 and each.repeats[0].valid for each in found.sides)
    assert found.sides[3].settings["policy"] == "stall-free:token_budget=8"
    seen = read_study(TOY, found)
    assert seen is not None
    assert [panel.title for panel in seen.figures[0].panels] == [each.name for each in found.sides]
    assert all(panel.curves[0].points for panel in seen.figures[0].panels)


def run(round_: int, gap: float, noise: float = 0.0) -> Repeat:
    """Two requests of five tokens, 10 ms apart but for one gap."""
    times = (0.1, 0.11, 0.11 + gap + noise * round_, 0.12 + gap + noise * round_, 0.13 + gap + noise * round_)
    return repeat(round_, [request(0, times), request(1, times)], iterations())


def measured(spikes: float, flat: float, noise: float = 0.0) -> Result:
    gaps = {"prefill-first": spikes, "orca": spikes, "sarathi": flat, "stall-free": flat}
    return result([side(name, [run(number, gap, noise) for number in range(5)]) for name, gap in gaps.items()])


def test_spikes_above_flat_streams_are_the_papers_shape() -> None:
    seen = read_study(Stalls(), measured(0.3, 0.02))
    assert seen is not None
    assert seen.passed
    assert len(seen.orderings) == 8
    assert seen.orderings[4].more.median == pytest.approx(300)


@pytest.mark.parametrize(("spikes", "flat", "noise"), [(0.02, 0.3, 0.0), (0.3, 0.3, 0.0), (0.3, 0.28, 0.02)])
def test_no_spikes_or_intervals_that_overlap_are_not(spikes: float, flat: float, noise: float) -> None:
    seen = read_study(Stalls(), measured(spikes, flat, noise))
    assert seen is not None
    assert not seen.passed
    assert not any(shape.passed for shape in seen.orderings)


def test_the_longest_gap_is_one_of_a_request_not_between_requests() -> None:
    apart = [request(0, (0.1, 0.12)), request(1, (0.9, 0.95))]
    assert longest_gap(repeat(0, apart)) == pytest.approx(50)


@pytest.mark.parametrize("spoilt", [{"problems": ("x",)}, {"partial": True}])
def test_a_system_without_a_whole_and_valid_repeat_leaves_nothing_to_see(spoilt: dict[str, Any]) -> None:
    whole = measured(0.3, 0.02)
    broken = replace(whole.sides[0], repeats=tuple(replace(each, **spoilt) for each in whole.sides[0].repeats))
    assert read_study(Stalls(), replace(whole, sides=(broken, *whole.sides[1:]))) is None
