"""Chunk size and P:D ratio: a toy run of the real model, and what is said of made-up gains."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orcinus.bench.record import Repeat
from orcinus.bench.result import Result
from orcinus.papers.measured.chunks import BASELINE, Chunks, requests_per_second
from orcinus.papers.measured.study import read_study, run_study
from orcinus.papers.published_sarathi import PEAKS
from tests.papers.measured.made_up import repeat, request, result, side

TOY = Chunks(places=2, length=24, chunks=(8, 16), ratios=(1, 5))
STUDY = Chunks(ratios=(1, 6, 14, 100))


def test_a_toy_run_measures_every_chunk_size_at_every_ratio() -> None:
    found = run_study(TOY, None, 1)
    assert found.work.requests == 2 * 6
    assert [each.name for each in found.sides][:3] == [f"{BASELINE}, P:D 1", "C = 8, P:D 1", "C = 16, P:D 1"]
    assert all(each.repeats[0].valid for each in found.sides)
    first = found.sides[0].repeats[0].requests[0]
    assert (first.prompt_tokens, first.output_tokens) == (12, 13)  # the last token of the prompt brings the first answer
    seen = read_study(TOY, found)
    assert seen is not None
    assert len(seen.orderings) == 3 * 2 + 1


def run(number: int, per_second: float) -> Repeat:
    ends = [(n + 1) / per_second for n in range(54)]
    return repeat(number, [request(n, (end,)) for n, end in enumerate(ends)])


def measured(gains: Mapping[int, tuple[float, ...]], noise: float = 0.0) -> Result:
    """Gains of each chunk size at the ratios of STUDY, over a baseline of ten requests per second."""
    speeds = {BASELINE: (1.0,) * 4} | {f"C = {chunk}": gain for chunk, gain in gains.items()}
    return result(
        [
            side(f"{name}, P:D {ratio}", [run(n, 10 * speed * (1 + noise * (n % 2) * (name != BASELINE))) for n in range(5)])
            for name, found in speeds.items()
            for ratio, speed in zip(STUDY.ratios, found, strict=True)
        ]
    )


def test_gains_that_rise_to_the_balance_and_fall_beyond_it_are_the_papers_shape() -> None:
    seen = read_study(STUDY, measured({128: (1.02, 1.15, 1.1, 1.01), 256: (1.01, 1.1, 1.26, 1.03)}))
    assert seen is not None
    assert seen.passed
    assert [line.published for line in seen.measurements if line.published] == ["1.145, at 6", "1.265, at 14"]


@pytest.mark.parametrize(
    ("small", "large", "noise", "missing"),
    [
        ((0.9, 0.95, 0.9, 0.8), (1.01, 1.1, 1.26, 1.03), 0.0, ["C = 128: the baseline below P:D 6"]),
        ((1.02, 1.15, 1.1, 1.2), (1.01, 1.1, 1.26, 1.03), 0.0, ["C = 128 falls: at P:D 100 below 6"]),
        ((1.2, 1.15, 1.1, 1.01), (1.01, 1.1, 1.26, 1.03), 0.0, ["C = 128 rises: at P:D 1 below 6"]),
        ((1.02, 1.15, 1.4, 1.01), (1.01, 1.1, 1.26, 1.03), 0.0, ["C = 256 over C = 128: at P:D 6 below at 14"]),
    ],
)
def test_what_is_not_so_is_not_found(
    small: tuple[float, ...], large: tuple[float, ...], noise: float, missing: list[str]
) -> None:
    seen = read_study(STUDY, measured({128: small, 256: large}, noise))
    assert seen is not None
    assert [shape.what for shape in seen.orderings if not shape.passed] == missing


def test_noise_larger_than_the_gain_finds_nothing_about_it() -> None:
    seen = read_study(STUDY, measured({128: (1.02, 1.15, 1.1, 1.01), 256: (1.01, 1.1, 1.26, 1.03)}, noise=0.3))
    assert seen is not None
    assert not any(shape.passed for shape in seen.orderings if "rises" in shape.what or "falls" in shape.what)


def test_prompts_and_decodes_balance_where_the_published_curves_peak() -> None:
    for chunk in (128, 256):
        assert int(Chunks().balance(chunk)) == PEAKS[1024, chunk][1]
        assert Chunks().nearest(chunk) == PEAKS[1024, chunk][1]


def test_only_the_middle_one_of_three_batches_counts() -> None:
    ends = [5.0, 6.0, 7.0, 8.0, 20.0, 30.0]
    assert requests_per_second(repeat(0, [request(n, (end,)) for n, end in enumerate(ends)])) == pytest.approx(2 / 2)
