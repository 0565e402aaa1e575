"""Two results are ranked only where it is certain which is better."""

from __future__ import annotations

import pytest

from orcinus.bench.compare import compare, overall
from orcinus.bench.result import Result
from orcinus.errors import ConfigError
from tests.bench.made_up_runs import repeat, request, result, run_of, side, work


def runs(*seconds: float, **changed: object) -> Result:
    return result(side("a", *(run_of(each, number) for number, each in enumerate(seconds))), **changed)


FAST, SLOW = (1.0, 1.1, 1.2, 1.1, 1.0, 1.1, 1.2), (2.0, 2.1, 2.2, 2.1, 2.0, 2.1, 2.2)
BETWEEN = (1.1, 1.5, 2.1, 1.4, 1.6, 1.2, 1.05)


def test_what_takes_less_time_is_better() -> None:
    found = {verdict.metric: verdict for verdict in compare(runs(*FAST), runs(*SLOW))}
    assert found["e2e.p50"].better == "a"
    assert found["e2e.p50"].ratio == pytest.approx(2.1 / 1.1)


def test_more_throughput_is_better() -> None:
    found = {verdict.metric: verdict for verdict in compare(runs(*SLOW), runs(*FAST))}
    assert found["request_throughput"].better == "b"


def test_what_lies_within_the_noise_is_not_ranked() -> None:
    verdicts = compare(runs(*FAST), runs(*BETWEEN))
    assert {verdict.better for verdict in verdicts} == {None}
    assert {verdict.why for verdict in verdicts} == {"there is no difference beyond the noise"}
    assert overall(verdicts) == "Which is better cannot be told."


def test_few_repeats_are_not_ranked_however_far_apart() -> None:
    verdicts = compare(runs(*FAST), runs(50, 60, 70, 80))
    assert {verdict.why for verdict in verdicts} == {"more repeats are needed: measure both at least 7 times"}
    assert {verdict.better for verdict in compare(runs(*FAST[:5]), runs(*SLOW[:5]))} == {None}


@pytest.mark.parametrize(
    ("different", "said"),
    [
        ({"prompts": "feedfeedfeedfeed"}, "prompts 0123456789abcdef and feedfeedfeedfeed"),
        ({"model": "another"}, "model a-model and another"),
        ({"arrivals": "poisson:rate=2"}, "arrivals all-at-once and poisson:rate=2"),
        ({"limits": {"max_total": 9}}, "limits none and {'max_total': 9}"),
        ({"keep_prompts": True}, "keep_prompts no and yes"),
    ],
)
def test_different_work_is_not_compared(different: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be ranked, because the work differs: {said}"):
        compare(runs(*FAST), runs(*SLOW, work=work(**different)))


def test_goodput_under_different_objectives_is_not_compared() -> None:
    strict, lax = runs(*FAST, objectives={"ttft": 0.1}), runs(*SLOW, objectives={"ttft": 9.0})
    assert "goodput" not in {verdict.metric for verdict in compare(strict, lax)}
    assert "goodput" in {verdict.metric for verdict in compare(lax, lax)}


def test_what_a_capacity_promised_is_no_objective_of_single_requests() -> None:
    searched = runs(*FAST, kind="capacity", objectives={"tbt.p99": 0.1})
    assert {verdict.metric for verdict in compare(searched, searched)} >= {"e2e.p50"}


def test_one_of_several_sides_has_to_be_named() -> None:
    both = result(side("x", *(run_of(1, number) for number in range(7))), side("y", *(run_of(2, n) for n in range(7))))
    with pytest.raises(ConfigError, match="the first result has several sides: say which one to compare: x; y"):
        compare(both, both)
    with pytest.raises(ConfigError, match="the second result has no side 'z': choose x; y"):
        compare(both, both, "x", "z")
    assert {verdict.better for verdict in compare(both, both, "x", "y")} == {"a"}


def test_tokens_that_all_come_at_once_win_nothing() -> None:
    """Static batching hands its answers out with the batch: no time between tokens, and a long wait before."""
    at_once = result(side("a", *(repeat(request(0, 0.0, (5.0, 5.0)), number=number) for number in range(7))))
    found = {verdict.metric: verdict for verdict in compare(runs(*FAST), at_once)}
    assert found["tbt.p50"].better is found["tpot.p99"].better is None
    assert "all tokens came at once" in found["tbt.p50"].why
    assert found["ttft.p50"].better == "a"


def test_what_must_not_be_believed_is_not_compared() -> None:
    late = result(side("a", *(run_of(1, number, problems=("the client was late",)) for number in range(5))))
    with pytest.raises(ConfigError, match="the second result has no valid runs: a, repeat 1: the client was late"):
        compare(runs(*FAST), late)
