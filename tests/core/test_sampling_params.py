"""Sampling parameters: the ranges of vLLM and OpenAI, checked when they are made."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import RequestError

BAD = [
    ("n", 0),
    ("n", 1000),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", 2.5),
    ("max_tokens", True),
    ("min_tokens", -1),
    ("min_tokens", "1"),
    ("temperature", -0.1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("temperature", "hot"),
    ("temperature", 10**400),
    ("stop", 5),
    ("stop", {"a": 1}),
    ("stop_token_ids", 5),
    ("stop_token_ids", "12"),
    ("logit_bias", [1]),
    ("logit_bias", {1: "x"}),
    ("logit_bias", {1: 1e39}),
    ("ignore_eos", "no"),
    ("include_stop_str_in_output", 1),
    ("skip_special_tokens", None),
    ("top_k", -2),
    ("top_p", 0),
    ("top_p", 1.5),
    ("top_p", math.nan),
    ("min_p", -0.1),
    ("min_p", 1.1),
    ("repetition_penalty", 0),
    ("repetition_penalty", 1e-300),
    ("presence_penalty", 2.1),
    ("frequency_penalty", -2.1),
    ("logit_bias", {-1: 1.0}),
    ("logit_bias", {1: math.nan}),
    ("stop", ("",)),
    ("stop_token_ids", (-1,)),
    ("allowed_token_ids", ()),
    ("allowed_token_ids", []),
    ("allowed_token_ids", "12"),
    ("allowed_token_ids", 5),
    ("bad_words", "duck"),
    ("bad_words", ("",)),
    ("bad_words", (" ",)),
    ("bad_words", (5,)),
    ("bad_words_token_ids", 5),
    ("bad_words_token_ids", (5,)),
    ("bad_words_token_ids", ((),)),
    ("seed", 2**63),
    ("seed", "seven"),
    ("logprobs", -1),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=name):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_min_tokens_stand_against_a_max_tokens_that_the_caller_named() -> None:
    with pytest.raises(RequestError, match="min_tokens must be at most max_tokens"):
        SamplingParams(min_tokens=300, max_tokens=256)
    assert SamplingParams(min_tokens=300).answer_length(1000) == 300, "256 is the default's, which gives way"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stop_token_ids": [3, -1]}, r"stop_token_ids\[1\] must be a token id, not -1"),
        ({"allowed_token_ids": [3, 4, "5"]}, r"allowed_token_ids\[2\] must be a token id, not '5'"),
        ({"allowed_token_ids": [True]}, r"allowed_token_ids\[0\] must be a token id, not True"),
        ({"bad_words_token_ids": [[1], [2, 1.5]]}, r"bad_words_token_ids\[1\]\[1\] must be a token id, not 1.5"),
        ({"bad_words_token_ids": [[1], "ab"]}, r"bad_words_token_ids\[1\] must be a list of token ids, not 'ab'"),
    ],
)
def test_what_is_no_token_id_is_named_by_its_place(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SamplingParams(**fields)


IDS = st.integers(0, 3)
WORDS = st.lists(st.lists(IDS, min_size=1, max_size=4).map(tuple), max_size=5).map(tuple)


@given(WORDS, st.lists(IDS, min_size=1, max_size=3), st.lists(IDS, max_size=6), st.sets(IDS), st.integers(0, 4))
def test_banned_tokens_are_those_that_would_end_a_word_or_too_early_a_text(
    words: tuple[tuple[int, ...], ...], prompt: list[int], output: list[int], stops: set[int], min_tokens: int
) -> None:
    """A word counts only within the output: what the prompt ends with begins none."""
    params = SamplingParams(bad_words_token_ids=words, stop_token_ids=tuple(stops), min_tokens=min_tokens)
    history = (*prompt, *output)
    found = params.banned(len(output), history if params.needs_history else ())
    ends_a_word = {t for t in range(4) for word in words if tuple([*output, t][-len(word) :]) == word}
    assert found == ends_a_word | (stops if len(output) < min_tokens else set())


def test_forms_are_normalised() -> None:
    params = SamplingParams(stop="end", stop_token_ids=[3], logit_bias={5: 1})  # type: ignore[arg-type]
    assert params.stop == ("end",)
    assert params.stop_token_ids == (3,)
    assert dict(params.logit_bias) == {5: 1}
    params = SamplingParams(allowed_token_ids=[3], bad_words=["a"], bad_words_token_ids=[[1, 2]])  # type: ignore[arg-type,list-item]
    assert (params.allowed_token_ids, params.bad_words, params.bad_words_token_ids) == ((3,), ("a",), ((1, 2),))


def test_none_means_none_as_in_vllm() -> None:
    params = SamplingParams(stop=None, stop_token_ids=None, logit_bias=None)  # type: ignore[arg-type]
    assert (params.stop, params.stop_token_ids, dict(params.logit_bias)) == ((), (), {})
    params = SamplingParams(allowed_token_ids=None, bad_words=None)  # type: ignore[arg-type]
    assert (params.allowed_token_ids, params.bad_words) == (None, ())


def test_they_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingParams().temperature = 0  # type: ignore[misc]


def test_a_tiny_temperature_is_greedy() -> None:
    assert SamplingParams(temperature=1e-9).greedy
    assert not SamplingParams(temperature=0.01).greedy


def test_log_probabilities_of_the_chosen_token_alone_may_be_asked_for() -> None:
    asked = SamplingParams(logprobs=0, prompt_logprobs=0)
    assert (asked.logprobs, asked.prompt_logprobs) == (0, 0)


@pytest.mark.parametrize(
    ("generated", "history", "banned"),
    [
        (0, (9, 9), {4}),
        (1, (9, 9, 1), {4, 2}),
        (2, (9, 1, 2), {4, 3}),
        (2, (9, 9, 1), {4, 2}),
        (2, (1, 2, 5), {4}),
        (1, (9, 1, 2), {4}),  # its first token is the prompt's
    ],
)
def test_the_last_token_of_a_bad_word_is_banned_after_the_others(
    generated: int, history: tuple[int, ...], banned: set[int]
) -> None:
    params = SamplingParams(bad_words_token_ids=((4,), (1, 2), (1, 2, 3)))
    assert params.banned(generated, history) == banned


def test_stop_tokens_are_banned_before_min_tokens() -> None:
    params = SamplingParams(min_tokens=2, max_tokens=4, stop_token_ids=(7,))
    assert [params.banned(generated) for generated in range(4)] == [{7}, {7}, set(), set()]


@pytest.mark.parametrize(
    ("changes", "masked", "needs_history"),
    [
        ({}, False, False),
        ({"allowed_token_ids": (1,)}, True, False),
        ({"bad_words_token_ids": ((1,),)}, True, False),
        ({"bad_words_token_ids": ((1, 2),)}, True, True),
        ({"min_tokens": 1}, True, False),
        ({"thinking_token_budget": 3}, True, True),
        ({"frequency_penalty": 1.0}, False, True),
    ],
)
def test_which_parameters_mask_tokens_and_which_look_back(changes: dict[str, Any], masked: bool, needs_history: bool) -> None:
    params = SamplingParams(max_tokens=4, **changes)
    assert (params.masked, params.needs_history) == (masked, needs_history)
