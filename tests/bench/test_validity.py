"""What must not be believed is said, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orcinus.bench.record import RequestOutcome
from orcinus.bench.result import Result, Side
from orcinus.bench.validity import Doubt, cautions, checked, doubts
from tests.bench import made_up, made_up_runs
from tests.bench.made_up_runs import request, run_of, side


def told(found: list[Doubt]) -> str:
    return " ".join(" ".join((doubt.what, *doubt.details)) for doubt in found)


def spoilt(side: Side, outcome: RequestOutcome, error: str = "") -> Side:
    """The first request of each repeat ended in another way."""
    return replace(
        side,
        repeats=tuple(
            replace(each, requests=(made_up.spoil(each.requests[0], outcome, error), *each.requests[1:]))
            for each in side.repeats
        ),
    )


def of_outputs(side: Side, prefix: str) -> Side:
    """The same run, with other outputs."""
    return replace(
        side,
        repeats=tuple(
            replace(each, requests=tuple(replace(one, output=prefix + one.output) for one in each.requests))
            for each in side.repeats
        ),
    )


def test_a_sound_result_says_what_was_looked_at() -> None:
    result = made_up.result([made_up.side("orca", repeats=7), made_up.side("sarathi", repeats=7)])
    assert doubts(result) == []
    assert cautions(result) == []
    assert "14 repeats valid, and 280 requests served" in checked(result)
    assert "output of a request is the same" in checked(result)


def test_outputs_that_were_not_kept_are_not_said_to_be_the_same() -> None:
    side = made_up.side("orca")
    without = replace(
        side,
        repeats=tuple(replace(each, requests=tuple(replace(one, output="") for one in each.requests)) for each in side.repeats),
    )
    assert "output of a request" not in checked(made_up.result([without]))


def test_an_interrupted_run() -> None:
    result = made_up.result([made_up.side("orca"), made_up.side("sarathi", repeats=1)], complete=False)
    assert "interrupted" in told(doubts(result))
    assert "sarathi: 1 of 3" in told(doubts(result))


def test_repeats_that_must_not_be_believed() -> None:
    good, bad = made_up.side("orca"), made_up.side("sarathi", problems=("the client was late",))
    some = replace(good, repeats=(bad.repeats[0], *good.repeats[1:]))
    assert "orca, repeat 1: the client was late" in told(doubts(made_up.result([some])))
    assert "orca: the numbers leave out 1 of 3 repeats" in told(doubts(made_up.result([some])))
    assert "sarathi: no repeat is valid" in told(doubts(made_up.result([good, bad])))


def test_requests_that_were_not_served() -> None:
    result = made_up.result(
        [spoilt(made_up.side("orca"), RequestOutcome.WRONG_LENGTH), spoilt(made_up.side("b"), RequestOutcome.FAILED, "why")]
    )
    assert "orca: 3 of 60 requests were not served as asked (3 wrong length)" in told(doubts(result))
    assert "b: 3 of 60 requests were not served as asked (3 failed)" in told(doubts(result))
    assert "failed: why" in told(doubts(result))


def test_outputs_that_differ_between_sides_and_repeats() -> None:
    one, other = made_up.side("orca"), of_outputs(made_up.side("sarathi"), "x")
    found = told(doubts(made_up.result([one, other])))
    assert "outputs of 20 of 20 requests differ" in found
    assert "sarathi against orca: 20 requests" in found
    mixed = replace(one, repeats=(one.repeats[0], *of_outputs(one, "x").repeats[1:]))
    assert "orca, one repeat against another: 20 requests" in told(doubts(made_up.result([mixed])))


def frames(side: Side) -> Side:
    first = side.repeats[0]
    requests = tuple(replace(one, timed="frames") for one in first.requests)
    return replace(side, repeats=(replace(first, requests=requests), *side.repeats[1:]))


def test_what_to_keep_in_mind() -> None:
    def caution(result: Result) -> str:
        return told(cautions(result))

    assert "3 repeats do not tell differences from noise in so many comparisons: take 7." in caution(made_up.result())
    three_sides = made_up.result([made_up.side(name, repeats=7) for name in ("a", "b", "c")])
    assert "7 repeats do not tell differences from noise in so many comparisons: take 8." in caution(three_sides)
    assert "One repeat does not say how much of this is noise: take 7." in caution(
        made_up.result([made_up.side("orca", repeats=1)])
    )
    assert "after commit 0123: others" in caution(made_up.result(commit="0123+"))
    assert "tokens of orca are those between frames" in caution(made_up.result([frames(made_up.side("orca"))]))


def test_tokens_that_came_together_make_no_good_time_between_tokens() -> None:
    side = made_up.side("request-level")
    at_once = replace(
        side,
        repeats=tuple(
            replace(each, requests=tuple(replace(one, times=(one.ended,) * 20) for one in each.requests))
            for each in side.repeats
        ),
    )
    assert "Most tokens of request-level came together" in told(cautions(made_up.result([at_once])))
    assert "came together" not in told(cautions(made_up.result([side])))


@pytest.mark.parametrize(
    ("changed", "sides", "said"),
    [
        ({}, [side("a", run_of(1, problems=("the client was late",)))], "a, repeat 1: the client was late"),
        ({}, [side("a", run_of(1, load=7.5))], "load average up to 7.5 on 2 cores"),
        ({}, [side("a")], "Nothing was measured"),
        (
            {"kind": "capacity", "capacity": {"a": 9.0}},
            [side("a, 9/s", run_of(1), system="a", rate=9.0)],
            "only 1 requests/s were served of 9",
        ),
        (
            {"kind": "capacity", "capacity": {"a": 9.0}},
            [side("a, 12/s", run_of(1, problems=("the client was late",)), system="a", rate=12.0)],
            "the search ended at 12 requests/s, which could not be measured",
        ),
    ],
)
def test_what_makes_a_run_doubtful(changed: dict[str, Any], sides: list[Side], said: str) -> None:
    assert said in told(doubts(made_up_runs.result(*sides, **changed)))


def cached(share: float, name: str = "a", url: str = "http://x") -> Side:
    """A server that found this share of 100 prompt tokens in its cache."""
    return side(name, made_up_runs.repeat(request(0, 0.0, (1.0,), 100, cached_tokens=round(100 * share))), url=url)


@pytest.mark.parametrize(("own", "share", "doubtful"), [(0, 0.83, True), (0, 0.0, False), (60, 0.6, False), (60, 0.9, True)])
def test_a_cache_that_knew_more_than_the_workload_shares(own: int, share: float, doubtful: bool) -> None:
    work = made_up_runs.work(prompt_tokens=100, shared_tokens=own)
    found = told(doubts(made_up_runs.result(cached(share), work=work)))
    assert (f"{share:.0%} of the prompt tokens came from a prefix cache, where the workload shares {own}%" in found) is doubtful


def test_prompts_that_were_kept_on_purpose_are_a_caution() -> None:
    work = made_up_runs.work(prompt_tokens=100, shared_tokens=0, keep_prompts=True)
    result = made_up_runs.result(cached(0.83), work=work)
    assert "prefix cache" not in told(doubts(result))
    assert "had the same prompts, which a prefix cache knows (share of prompt tokens found there: a 83%)" in told(
        cautions(result)
    )


def test_a_server_that_does_not_tell_what_its_cache_knew() -> None:
    silent = made_up_runs.result(side("a", run_of(1), url="http://x"))
    assert "Prompt tokens of a that came from a prefix cache: unknown" in told(cautions(silent))
    counting = made_up_runs.result(side("a", run_of(1, counters={"prefix_hit_rate": 0.0}), url="http://x"))
    assert "unknown" not in told(cautions(counting))
    assert "unknown" not in told(cautions(made_up_runs.result(side("a", run_of(1))))), "an engine here starts empty"


def test_few_requests_come_faster_than_their_rate_says() -> None:
    """Three in a second, of a process that sends one."""
    run = made_up_runs.repeat(*(request(number, 0.5 * number, (2.0,)) for number in range(3)))
    (found,) = [each for each in cautions(made_up_runs.result(side("a", run, rate=1.0))) if "their process" in each.what]
    assert found.details == ("a: 2 a second",)
