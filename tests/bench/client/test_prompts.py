"""Prompts that are made up: as long as they were to be, and alike where arrivals say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.bench.client.bodies import Ahead, Form
from orcinus.bench.client.prompts import FIRST_ID, IDS, Ids, Words, prompts_hash
from orcinus.bench.client.target import Target
from orcinus.bench.client.words import WORDS
from orcinus.errors import ConfigError
from orcinus.workload.arrival import Arrival
from orcinus.workload.workload import make_workload

MIXED = "uniform:low=4:high=64,uniform:low=2:high=9"


@given(st.integers(1, 300), st.integers(0, 10**6))
def test_ids_are_in_every_vocabulary(tokens: int, number: int) -> None:
    prompt = Ids().make(Arrival(0, tokens, 1), number)
    assert len(prompt) == tokens
    assert all(FIRST_ID <= each < FIRST_ID + IDS for each in prompt)


@given(st.integers(1, 2000), st.floats(0, 60), st.floats(0.7, 3))
def test_words_are_as_many_as_give_the_tokens(tokens: int, around: float, each: float) -> None:
    prompt = Words(around, each)
    words = prompt.show(prompt.make(Arrival(0, tokens, 1), 0)).split()
    assert set(words) <= set(WORDS)
    assert len(words) == 1 or around + len(words) * each == pytest.approx(tokens, abs=each / 2 + 1e-9)


def test_every_word_is_another_one() -> None:
    assert len(set(WORDS)) == len(WORDS) >= 256


@pytest.mark.parametrize("prompts", [Ids(), Words(), Words(12.0, 1.3)])
def test_prompts_share_what_arrivals_share(prompts: Ids | Words) -> None:
    first, second = (prompts.make(Arrival(0, 100, 1, prefix="a", prefix_tokens=60), number) for number in (1, 2))
    other = prompts.make(Arrival(0, 100, 1, prefix="b", prefix_tokens=60), 3)
    shared = sum(a == b for a, b in zip(first, second, strict=True))
    words = 60 if isinstance(prompts, Ids) else round((60 - prompts.around) / prompts.each)
    assert first[:words] == second[:words]
    assert words <= shared < words + 5
    assert first[:words] != other[:words]


@pytest.mark.parametrize("prompts", [Ids(), Words(0.0, 1.3)])
def test_prompts_share_blocks(prompts: Ids | Words) -> None:
    first, second = (
        prompts.make(Arrival(0, 64, 1, blocks=(7, last), block_tokens=26), number) for number, last in enumerate((8, 9))
    )
    words = 26 if isinstance(prompts, Ids) else 20
    assert first[:words] == second[:words] != first[words : 2 * words]
    assert first[words : 2 * words] != second[words : 2 * words]


def test_without_anything_shared_prompts_differ_from_the_start() -> None:
    first, second = (Words().make(Arrival(0, 50, 1), number) for number in (1, 2))
    assert first[:4] != second[:4]


def test_equal_work_has_an_equal_hash() -> None:
    def found(arrivals: str = "poisson:rate=1", lengths: str = MIXED, requests: int = 20, seed: int = 0) -> str:
        return prompts_hash(make_workload(arrivals, lengths, requests, seed), Ids())

    assert found() == found("closed:clients=4:think=1") == found("poisson:rate=7")
    assert len({found(), found(requests=19), found(seed=1), found(lengths="fixed:tokens=8,fixed:tokens=3")}) == 4
    workload = make_workload("poisson:rate=1", MIXED, 20)
    assert prompts_hash(workload, Ids()) != prompts_hash(workload, Words()) != prompts_hash(workload, Words(0, 1.3))


def test_work_without_an_end_has_no_hash() -> None:
    with pytest.raises(ConfigError, match="say how many requests"):
        prompts_hash(make_workload("poisson:rate=1", MIXED), Ids())


def test_more_than_the_answer_is_asked_for_only_where_answers_end_by_themselves() -> None:
    workload = make_workload("poisson:rate=1", "fixed:tokens=8,fixed:tokens=5", 1, max_tokens="pow2")
    for exact, asked in ((True, b'"max_tokens":5,'), (False, b'"max_tokens":8,')):
        (order,) = Form(Target("http://x", "m"), exact_lengths=exact).orders(workload)
        assert asked in order.request
        assert order.output_tokens == (5 if exact else None)


@given(st.integers(1, 4000))
def test_requests_are_the_same_however_far_ahead_they_are_written(most: int) -> None:
    form, workload = Form(Target("http://x", "m")), make_workload("poisson:rate=1", MIXED, 12)
    ahead = Ahead(form.orders(workload), most)
    taken = []
    for _ in range(12):
        ahead.prepare(1.0)
        taken.append(ahead.take())
    assert taken == list(form.orders(workload))
    assert not ahead.prepare(1.0)


def test_requests_of_a_workload_without_end_are_written_as_far_as_memory_goes() -> None:
    ahead = Ahead(Form(Target("http://x", "m")).orders(make_workload("poisson:rate=1", MIXED)), most=10_000)
    while ahead.prepare(0.001):
        pass
    assert 10_000 <= ahead.bytes < 12_000
