"""Allowed tokens and bad words, from the parameters of a user to the tokens of a model, in every company."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from orcinus.core.request import Logprobs
from orcinus.errors import RequestFailed
from orcinus.text.input_processor import InputProcessor, bad_words_token_ids
from tests.product import part

PROMPT = "Once upon a time"
LONG = SamplingParams(max_tokens=40, temperature=0, ignore_eos=True)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(dtype="float32", max_batch_size=8) as shared:
        yield shared


def text(llm: LLM, **params: Any) -> str:
    return llm.generate(PROMPT, replace(LONG, **params))[0].text


def whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word.strip())}(?!\w)")


@pytest.mark.parametrize(
    "words",
    part(
        ("  a quiet village",),  # blanks before a word are not part of it
        full=[
            (("duck",),),  # two tokens in either form
            (("the",),),  # two tokens at a beginning, one behind a blank
            (("lived", "village"),),
            (("there was a duck called Daisy",),),
            (("é", "Daisy,"),),
        ],
    ),
)
def test_bad_words_never_come(llm: LLM, words: tuple[str, ...]) -> None:
    plain, found = text(llm), text(llm, bad_words=words)
    for word in words:
        assert not whole(word).search(found)
    assert (found == plain) == (not any(whole(word).search(plain) for word in words))


def test_a_word_is_banned_with_and_without_a_blank_before_it(llm: LLM) -> None:
    assert llm.tokenizer is not None
    encode = llm.tokenizer.encode
    forms = bad_words_token_ids(llm.tokenizer, ["the", " the", "fox"])
    assert forms == (encode("the"), encode(" the"), encode("fox"), encode(" fox"))
    assert len(forms[0]) != len(forms[1])


@pytest.mark.full
def test_a_bad_word_that_the_prompt_begins_may_end_in_the_answer(llm: LLM) -> None:
    """As in vLLM: a word counts if all of it is generated."""
    assert llm.tokenizer is not None
    first, *_ = llm.generate(PROMPT, LONG)[0].token_ids
    last = llm.tokenizer.encode(PROMPT)[-1]
    kept = llm.generate(PROMPT, replace(LONG, bad_words_token_ids=((last, first),)))[0].token_ids
    assert kept == llm.generate(PROMPT, LONG)[0].token_ids


def test_only_allowed_tokens_come_greedy_and_drawn(llm: LLM) -> None:
    allowed = tuple(range(300, 700, 7))
    for params in (LONG, replace(LONG, temperature=1.5, seed=3), replace(LONG, temperature=1.0, top_k=5, top_p=0.9, seed=3)):
        ids = llm.generate(PROMPT, replace(params, allowed_token_ids=allowed))[0].token_ids
        assert set(ids) <= set(allowed)
        assert len(ids) == 40
    free = replace(LONG, ignore_eos=False)
    assert llm.generate(PROMPT, replace(free, allowed_token_ids=allowed))[0].finish_reason == "length", "no end is allowed"
    ends = (*allowed, *llm._input_processor.eos_ids)
    assert llm.generate(PROMPT, replace(free, allowed_token_ids=ends, logit_bias=dict.fromkeys(allowed, -100.0)))[0].token_ids


def test_a_bias_and_a_penalty_do_not_bring_a_forbidden_token_back(llm: LLM) -> None:
    params = replace(LONG, allowed_token_ids=(300, 307), logit_bias={308: 100.0}, repetition_penalty=0.01, presence_penalty=-2)
    assert set(llm.generate([[308, 5]], params)[0].token_ids) <= {300, 307}
    params = replace(LONG, bad_words_token_ids=((308,),), logit_bias={308: 100.0}, frequency_penalty=-2)
    assert 308 not in llm.generate(PROMPT, params)[0].token_ids


def test_log_probabilities_are_those_of_the_model_without_the_mask(llm: LLM) -> None:
    (free,) = llm.generate(PROMPT, replace(LONG, max_tokens=1, logprobs=3))
    (masked,) = llm.generate(PROMPT, replace(LONG, max_tokens=1, logprobs=3, bad_words_token_ids=(free.token_ids,)))
    assert free.logprobs is not None
    assert masked.logprobs is not None
    before, after = free.logprobs[0], masked.logprobs[0]
    assert isinstance(after, Logprobs)
    assert after.top == before.top
    assert (masked.token_ids[0], after.logprob, after.rank) == (*before.top[1], 2)


MANY = [
    replace(LONG, bad_words=("duck", "the", "a quiet village"), n=2, temperature=0.8, seed=1),
    replace(LONG, allowed_token_ids=tuple(range(0, 2048, 3))),
    replace(LONG, bad_words=("lived there",), min_tokens=9, ignore_eos=False, temperature=1.0, seed=5, top_p=0.9),
    LONG,
    replace(LONG, bad_words=("was",), presence_penalty=0.5, allowed_token_ids=tuple(range(5, 2048, 2))),
]


@pytest.mark.parametrize(
    "engine",
    part(
        {"policy": "stall-free:token_budget=7", "kv": "prefix-cache", "num_blocks": 8},  # memory is short: some are preempted
        full=[
            {"policy": "orca", "kv": "paged", "num_blocks": 14},
            {"policy": "sarathi:chunk_size=3", "kv": "prefix-cache", "num_blocks": 64},
            {"policy": "fastertransformer", "kv": "max-length", "num_blocks": 64},
        ],
    ),
    ids=lambda engine: engine["policy"],
)
def test_masks_are_a_requests_own_whatever_the_schedule(llm: LLM, engine: dict[str, Any]) -> None:
    prompts = [PROMPT, "There was once a robot", "Hello", PROMPT, "One day the fox"]
    alone = [
        [one.token_ids for one in llm.generate(prompt, params)[0].outputs] for prompt, params in zip(prompts, MANY, strict=True)
    ]
    with LLM(dtype="float32", max_batch_size=6, max_model_len=64, block_size=16, **engine) as other:
        found = other.generate(prompts, MANY)
        assert [[one.token_ids for one in output.outputs] for output in found] == alone
        assert (other.engine.scheduler.admission.preemptions > 0) == (engine["num_blocks"] < 20)


def test_a_request_whose_words_leave_no_token_fails_alone(llm: LLM) -> None:
    with pytest.raises(RequestFailed, match="forbid every token") as failed:
        llm.generate(PROMPT, [replace(LONG, allowed_token_ids=(5, 6), bad_words_token_ids=((5, 5), (5, 6), (6, 5), (6, 6)))])
    assert len(failed.value.outputs[0].token_ids) == 1
    assert llm.generate(PROMPT, LONG)[0].finish_reason == "length"


def test_ends_of_text_that_the_model_lacks_are_left_out() -> None:
    """A config may name ids beyond the vocabulary; before min_tokens they would have to be masked."""
    intake = InputProcessor(None, frozenset({1, 99}), SamplingParams(), 50, 64, lambda _: None, random.Random(0))
    (prepared,) = intake.prepare([[5]], SamplingParams(min_tokens=3, max_tokens=9))
    assert prepared.params.stop_token_ids == (1,)
