"""What repeats of several sides say together, and what should keep a reader from believing it."""

from __future__ import annotations

import pytest

from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.summary import same_outputs, summarize
from tests.bench.made_up_runs import lost, repeat, request, run_of, side


def runs(*seconds: float) -> list[object]:
    return [run_of(each, number) for number, each in enumerate(seconds)]


def test_medians_over_repeats() -> None:
    (found,) = summarize([side("a", *runs(1, 2, 6))])  # type: ignore[arg-type]
    assert found.median("e2e.p50") == 2
    assert (found.intervals["e2e.p50"].low, found.intervals["e2e.p50"].high) == (1, 6)
    assert found.ratios == {}


def test_ratios_are_taken_round_by_round() -> None:
    """The machine was twice as slow in the second round, for both: the ratio does not show it."""
    one, other = side("a", *runs(1, 2)), side("b", *runs(3, 6))  # type: ignore[arg-type]
    _, found = summarize([one, other])
    ratio = found.ratios["e2e.p50"]
    assert (ratio.median, ratio.low, ratio.high) == (3, 3, 3)


def test_rounds_that_only_one_side_has_are_no_ratio() -> None:
    one, other = side("a", run_of(1, 0), run_of(1, 1)), side("b", run_of(4, 1))
    _, found = summarize([one, other])
    assert found.ratios["e2e.p50"].median == 4


def test_repeats_that_must_not_be_believed_are_left_out() -> None:
    (found,) = summarize([side("a", run_of(1, 0), run_of(99, 1, problems=("the client was late",)))])
    assert (found.median("e2e.p50"), found.invalid) == (1, 1)


def test_a_side_without_repeats_has_nothing_to_say() -> None:
    one, other = summarize([side("a"), side("b", run_of(1))])
    assert (one.median("e2e.p50"), dict(other.ratios)) == (None, {})


def test_a_metric_that_one_repeat_lacks_is_left_out() -> None:
    nothing = repeat(lost(0, RequestOutcome.TIMEOUT), number=1)
    (found,) = summarize([side("a", run_of(1), nothing)])
    assert found.median("ttft.p50") is None
    assert found.median("requests") == 0.5


@pytest.mark.parametrize(("outputs", "expected"), [(("x", "x"), True), (("x", "y"), False), (("x", ""), None)])
def test_same_outputs(outputs: tuple[str, str], expected: bool | None) -> None:
    sides = [side(name, repeat(request(0, 0.0, (1.0,), output=output))) for name, output in zip("ab", outputs, strict=True)]
    assert same_outputs(sides) is expected


def test_outputs_of_what_failed_are_not_compared() -> None:
    sides = [side("a", run_of(1), run_of(1)), side("b", repeat(lost(0, RequestOutcome.RESET)))]
    assert same_outputs(sides) is True


def test_outputs_of_other_prompts_are_not_compared() -> None:
    def drawn(draw: int, output: str) -> Repeat:
        return repeat(request(0, 0.0, (1.0,), output=output), draw=draw)

    assert same_outputs([side("a", drawn(1, "x"), drawn(2, "y"))]) is None, "each prompt came once"
    assert same_outputs([side("a", drawn(1, "x"), drawn(2, "y")), side("b", drawn(1, "x"), drawn(2, "y"))]) is True
    assert same_outputs([side("a", drawn(1, "x"), drawn(2, "y")), side("b", drawn(1, "x"), drawn(2, "x"))]) is False
