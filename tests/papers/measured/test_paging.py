"""Reservation against paging: a toy run of the real model, and what is said of made-up runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from orcinus.bench.record import Repeat
from orcinus.bench.result import Result
from orcinus.papers.measured.paging import AT_ONCE, SYSTEMS, Paging, batched
from orcinus.papers.measured.study import read_study, run_study
from tests.papers.measured.made_up import iteration, repeat, request, result, side

TOY = Paging(prompt=4, output=4, longest=64, places=12, requests=24)


def test_a_toy_run_lets_seven_of_the_longest_requests_in_as_the_paper() -> None:
    found = run_study(TOY, None, 1)
    sides = {each.name: each for each in found.sides}
    assert list(sides) == [f"{kv}, {when}" for when in (AT_ONCE, "arriving") for kv in SYSTEMS]
    assert all(each.repeats[0].valid for each in found.sides)
    assert batched(sides["max-length, all at once"].repeats[0]) == 7
    assert sides["paged, arriving"].settings["rate"]
    seen = read_study(TOY, found)
    assert seen is not None
    assert seen.orderings[0].passed  # how many fit depends on no clock


def run(number: int, size: float, seconds: float, noise: float) -> Repeat:
    """Two requests of ten tokens."""
    took = seconds * (1 + noise * number)
    served = [request(n, [took * i / 10 for i in range(1, 11)]) for n in range(2)]
    return repeat(number, served, [iteration(0.1, waiting=1, requests=int(size))], counters={"preemptions": 0.0})


def measured(sizes: Mapping[str, float], seconds: Mapping[str, float], noise: float = 0.0) -> Result:
    return result(
        [
            side(f"{kv}, {when}", [run(n, sizes[kv], seconds[kv], noise) for n in range(5)])
            for when in (AT_ONCE, "arriving")
            for kv in SYSTEMS
        ]
    )


SIZES, SECONDS = {"max-length": 7, "reservation": 14, "paged": 30}, {"max-length": 4.0, "reservation": 2.0, "paged": 1.0}


def test_more_requests_more_throughput_and_less_latency_are_the_papers_shape() -> None:
    seen = read_study(Paging(), measured(SIZES, SECONDS))
    assert seen is not None
    assert seen.passed
    assert len(seen.orderings) == 6
    published = [line.published for line in seen.measurements if line.published]
    assert published == ["7.00", "2.7 to 8", "13.62", "1.7 to 2.7", "30.42"]


def test_a_larger_batch_that_serves_no_faster_is_not() -> None:
    seen = read_study(Paging(), measured(SIZES, SECONDS | {"paged": 2.1}))
    assert seen is not None
    missing = [shape.what for shape in seen.orderings if not shape.passed]
    assert missing == [
        "output tokens/s: reservation below paged",
        "mean latency per token at the same rate: paged below reservation",
    ]


def test_noise_hides_what_is_smaller_than_it() -> None:
    seen = read_study(Paging(), measured(SIZES, SECONDS, noise=0.5))
    assert seen is not None
    assert [shape.passed for shape in seen.orderings] == [True, True, False, False, False, False]


def test_only_iterations_with_waiting_requests_say_how_many_fit() -> None:
    one = [iteration(0.1, waiting=2, requests=6), iteration(0.1, waiting=1, requests=8), iteration(0.1, requests=1)]
    assert batched(repeat(0, [request(0, (1.0,))], one)) == pytest.approx(7)
    assert math.isnan(batched(repeat(0, [request(0, (1.0,))], one[2:])))
