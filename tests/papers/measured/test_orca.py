"""Latency against throughput: a toy run of the real model, and what is said of made-up curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from orcinus.bench.record import Repeat
from orcinus.bench.result import Result
from orcinus.papers.measured.orca import STATIC, SYSTEMS, OrcaCurves, normalized_latency, throughput_at
from orcinus.papers.measured.study import read_study, run_study
from tests.papers.measured.made_up import repeat, request, result, side

FEW = tuple(replace(each, requests=4) for each in SYSTEMS)
TOY = OrcaCurves(prompts=(2, 8), outputs=(1, 6), longest=32, loads=(0.5, 1.4), systems=FEW)


def test_a_toy_run_loads_every_system_by_what_it_serves_itself() -> None:
    found = run_study(TOY, None, 1)
    assert [each.name for each in found.sides][:3] == ["ft(1) at 0.5", "ft(1) at 1.4", "ft(8) at 0.5"]
    assert all(each.repeats[0].valid and len(each.repeats[0].requests) == 4 for each in found.sides)
    low, high = (float(found.sides[index].settings["rate"] or 0) for index in (0, 1))
    assert high / low == pytest.approx(1.4 / 0.5)
    assert {each.settings["num_blocks"] for each in found.sides} == {8 * 32 // 16}
    seen = read_study(TOY, found)
    assert seen is not None
    assert len(seen.orderings) == len(STATIC) + 1


def run(number: int, rate: float, ms: float) -> Repeat:
    """A hundred requests of ten tokens, each token `ms` after the last."""
    starts = [each / rate for each in range(100)]
    return repeat(number, [request(n, [at + ms / 1e3 * i for i in range(1, 11)], at) for n, at in enumerate(starts)])


def measured(curves: Mapping[str, tuple[tuple[float, float], ...]], noise: float = 0.0) -> Result:
    """Curves of (requests per second, ms per token)."""
    return result(
        [
            side(f"{name} at {load}", [run(n, rate * (1 + noise * n), ms) for n in range(5)], system=name, load=load)
            for name, curve in curves.items()
            for load, (rate, ms) in zip((0.5, 0.9, 1.4), curve, strict=True)
        ]
    )


PAPER = {
    "ft(1)": ((3.0, 2.0), (5.0, 4.0), (6.0, 20.0)),
    "ft(8)": ((4.0, 6.0), (7.0, 12.0), (8.0, 30.0)),
    "request-level(8)": ((6.0, 4.0), (9.0, 6.0), (10.0, 12.0)),
    "orca(8)": ((15.0, 2.5), (25.0, 3.0), (30.0, 8.0)),
    "orca(16)": ((20.0, 2.5), (35.0, 3.5), (40.0, 9.0)),
}


def test_orca_serving_more_at_the_same_latency_is_the_papers_shape() -> None:
    seen = read_study(OrcaCurves(), measured(PAPER))
    assert seen is not None
    assert seen.passed
    assert seen.orderings[0].less.median == pytest.approx(5 + 1 / 16, rel=0.02)  # the limit is 5 ms
    assert seen.orderings[0].more.median == pytest.approx(25 + 5 * 2 / 5, rel=0.02)
    published = {line.what: line.published for line in seen.measurements}
    assert published["orca(8): served at most, over ft(1)"] == "14.09"
    assert published["request-level(8): served at most, over ft(1)"] == ""


def test_what_orca_gains_is_not_found_where_it_gains_nothing_or_noise_hides_it() -> None:
    same = dict.fromkeys(PAPER, PAPER["ft(1)"])
    assert not any(shape.passed for shape in read_study(OrcaCurves(), measured(same)).orderings)  # type: ignore[union-attr]
    close = PAPER | {"request-level(8)": ((14.0, 2.5), (23.0, 3.0), (28.0, 8.0))}
    seen = read_study(OrcaCurves(), measured(close, noise=0.05))
    assert seen is not None
    assert [shape.passed for shape in seen.orderings] == [True, True, False, True]


@pytest.mark.parametrize(
    ("limit", "served"),
    [(0.5, 1.0), (2.0, 1.5), (3.0, 2.0), (100.0, 4.0)],
    ids=["never kept: credited with the first point", "between two", "at one", "never exceeded"],
)
def test_throughput_at_a_latency(limit: float, served: float) -> None:
    assert throughput_at([(1.0, 1.0), (2.0, 3.0), (4.0, 9.0)], limit) == pytest.approx(served)


def test_latency_is_normalized_by_generated_tokens() -> None:
    assert normalized_latency(repeat(0, [request(0, (0.1, 0.2)), request(1, (0.4, 0.5, 0.6, 0.8))])) == pytest.approx(150)
