"""Tokens chosen by kernels are those that torch's operations choose, with the same logits and the same uniform numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.executor_state import Row
from orcinus.core.request import NOTHING_ALLOWED
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.gpu.choose import KernelChooser
from orcinus.runtime.sampling import NOT_FINITE, Sampled, sample
from orcinus.runtime.transfers import Link
from tests.examples import examples
from tests.seam import row

VOCABULARY = 61
PROMPT = 4
CHOOSE = KernelChooser(Link(torch.device("cpu")))

PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.0]),
        "top_k": st.sampled_from([0, 1, 5, 100, 10**12]),
        "top_p": st.sampled_from([1.0, 0.9, 0.3]),
        "min_p": st.sampled_from([0.0, 0.05]),
        "repetition_penalty": st.sampled_from([1.0, 1.3]),
        "presence_penalty": st.sampled_from([0.0, 0.5]),
        "frequency_penalty": st.sampled_from([0.0, -0.5]),
        "logit_bias": st.dictionaries(st.integers(0, VOCABULARY - 1), st.floats(-5, 5), max_size=3),
        "min_tokens": st.sampled_from([0, 9]),
        "allowed_token_ids": st.sampled_from([None, (3, 5, 7, 20, 60), tuple(range(0, VOCABULARY, 2))]),
        "bad_words_token_ids": st.sampled_from([(), ((3,), (60,)), ((36, 20), (25, 36, 60), (9, 16, 25, 36, 5), (25, 4))]),
        "stop_token_ids": st.sampled_from([(), (7, 20)]),
        "logprobs": st.sampled_from([None, 0, 3]),
    },
)


def wish(number: int, params: dict[str, Any], generated: int = 3) -> Row:
    history = [(number // 2 * 5 + place * place) % VOCABULARY for place in range(PROMPT + generated)]  # 0 1 4 9, 16 25 36
    return row(history, PROMPT, SamplingParams(seed=number, **params))


def both(logits: torch.Tensor, chunks: list[Row]) -> tuple[Sampled, Sampled]:
    return CHOOSE(logits.clone(), chunks).read(), sample(logits.float(), chunks)


@examples(25)
@given(st.lists(PARAMS, min_size=1, max_size=4), st.integers(0, 2**20))
def test_the_same_tokens_and_log_probabilities(wishes: list[dict[str, Any]], seed: int) -> None:
    logits = torch.randn(len(wishes), VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3
    ours, theirs = both(logits, [wish(row, params) for row, params in enumerate(wishes)])
    assert ours.tokens == theirs.tokens
    assert ours.errors == theirs.errors == {}
    assert ours.logprobs.keys() == theirs.logprobs.keys()
    for place, mine in ours.logprobs.items():
        other = theirs.logprobs[place]
        assert (mine.rank, [token for token, _ in mine.top]) == (other.rank, [token for token, _ in other.top])
        assert mine.logprob == pytest.approx(other.logprob, abs=1e-5)


def test_a_damaged_row_and_one_without_any_token_left_fail_alone() -> None:
    logits = torch.randn(4, VOCABULARY)
    logits[0, 5] = math.nan
    logits[1, 5] = math.inf
    forbidden = {"min_tokens": 9, "stop_token_ids": tuple(range(VOCABULARY))}
    ours, theirs = both(
        logits, [wish(row, {} if row < 2 else forbidden if row == 2 else {"temperature": 0}) for row in range(4)]
    )
    assert ours.errors == theirs.errors == {0: NOT_FINITE, 1: NOT_FINITE, 2: NOTHING_ALLOWED}
    assert ours.tokens[3] == theirs.tokens[3] == int(logits[3].argmax())
    assert all(0 <= token < VOCABULARY for token in ours.tokens), "the next batch looks up embeddings of all of them"


def test_warming_up_leaves_nothing_behind() -> None:
    CHOOSE.warm_up(VOCABULARY, torch.float32)
    logits = torch.randn(1, VOCABULARY)
    ours, theirs = both(logits, [wish(0, {"temperature": 0})])
    assert ours == theirs
