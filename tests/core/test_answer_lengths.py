"""How long answers will be: learnt from those that ended, with those that were cut or still run as lower bounds."""

from __future__ import annotations

import random

import pytest

from orcinus.core.answer_lengths import AnswerLengths


def learnt(*answers: tuple[int, bool], live: dict[str, int] | None = None) -> AnswerLengths:
    lengths = AnswerLengths(live or {})
    for tokens, cut in answers:
        lengths.learn(tokens, cut=cut)
    return lengths


def test_answers_that_end_by_themselves_have_the_mean_of_those_before() -> None:
    lengths = learnt(*[(100, False), (200, False), (300, False)] * 20)
    assert lengths.left(0, 1000) == pytest.approx(200)
    assert lengths.left(150, 1000) == pytest.approx(100), "the shorter ones are over: 200 or 300 are left"
    assert lengths.left(0, 150) == pytest.approx((100 + 150 + 150) / 3), "max_tokens cuts the longer ones"


def test_answers_that_were_always_cut_are_expected_to_reach_any_limit() -> None:
    lengths = learnt(*[(16, True), (64, True)] * 20)
    assert lengths.left(0, 64) == pytest.approx(64)
    assert lengths.left(10, 500) == pytest.approx(490)


def test_long_answers_that_still_run_count() -> None:
    ended = [(10, False)] * 10
    without, with_them = learnt(*ended), learnt(*ended, live={str(n): 500 for n in range(10)})
    assert without.left(0, 1000) == pytest.approx(10)
    assert with_them.left(0, 1000) == pytest.approx(0.5 * 10 + 0.5 * 1000)


def test_while_few_have_ended_each_counts_at_once() -> None:
    lengths = learnt((10, False))
    assert lengths.left(0, 1000) == pytest.approx(10)
    lengths.learn(30, cut=False)
    assert lengths.left(0, 1000) == pytest.approx(20)


def test_draws_have_the_distribution_of_the_answers() -> None:
    rng = random.Random(0)
    answers = [int(rng.expovariate(1 / 200)) + 1 for _ in range(500)]
    lengths = learnt(*((tokens, False) for tokens in answers))
    drawn = [lengths.draw(0, 10_000, (number + 0.5) / 200) for number in range(200)]
    assert sum(drawn) / len(drawn) == pytest.approx(sum(answers) / len(answers), rel=0.05)
    assert sorted(drawn)[20] == pytest.approx(sorted(answers)[50], rel=0.2)


def test_nothing_is_left_below_one_token_and_nothing_beyond_the_limit() -> None:
    lengths = learnt(*[(100, False)] * 20)
    for so_far, limit in ((0, 1), (99, 100), (150, 151), (400, 2000)):
        for left in (lengths.left(so_far, limit), lengths.draw(so_far, limit, 0.99), lengths.draw(so_far, limit, 0.0)):
            assert 1 <= left <= max(1, limit - so_far)
    assert 1 <= AnswerLengths({}).left(0, 16) <= 16
