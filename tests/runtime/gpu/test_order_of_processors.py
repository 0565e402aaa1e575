"""The order in which a row becomes a token, against a literal transcription in float64, on the CPU and in the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.gpu.choose import KernelChooser
from orcinus.runtime.random import uniform
from orcinus.runtime.sampling import choose
from orcinus.runtime.transfers import Link
from tests.examples import examples
from tests.seam import row

VOCABULARY = 40
NEAR = 1e-5  # a choice that hangs on less is left to rounding
CHOOSERS = {"cpu": choose, "kernels": KernelChooser(Link(torch.device("cpu")))}
IDS = st.integers(0, VOCABULARY - 1)

# Numbers of few bits, so that float32 and float64 agree on what is equal.
PARAMS = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0.0, 0.5, 1.0, 2.0])},
    optional={
        "allowed_token_ids": st.lists(IDS, min_size=3, max_size=VOCABULARY),
        "bad_words_token_ids": st.lists(st.lists(IDS, min_size=1, max_size=3), max_size=4),
        "min_tokens": st.sampled_from([0, 9]),
        "stop_token_ids": st.lists(IDS, max_size=3),
        "logit_bias": st.dictionaries(IDS, st.sampled_from([-4.0, -1.0, 0.5, 3.0]), max_size=6),
        "repetition_penalty": st.sampled_from([0.5, 2.0, 4.0]),
        "frequency_penalty": st.sampled_from([-1.5, 0.5, 2.0]),
        "presence_penalty": st.sampled_from([-0.5, 1.5]),
        "min_p": st.sampled_from([0.02, 0.3]),
        "top_k": st.sampled_from([1, 2, 5, 12, 100]),
        "top_p": st.sampled_from([0.3, 0.6, 0.93]),
    },
)


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(x - x.max())
    return np.asarray(weights / weights.sum())


def keep(x: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(kept, x, -np.inf)


def literal(x: NDArray[np.float64], params: SamplingParams, prompt: list[int], output: list[int], u: float) -> int:
    """vLLM's steps one after the other, each on the whole row. Gives up where rounding decides."""
    ids = np.arange(len(x))
    if params.allowed_token_ids is not None:
        x = keep(x, np.isin(ids, params.allowed_token_ids))
    for word in params.bad_words_token_ids:
        if tuple(output[len(output) - len(word) + 1 :]) == word[:-1] and len(word) <= len(output) + 1:
            x = keep(x, ids != word[-1])
    if len(output) < params.min_tokens:
        x = keep(x, ~np.isin(ids, params.stop_token_ids))
    x = x + [params.logit_bias.get(token, 0.0) for token in ids.tolist()]
    seen = np.isin(ids, prompt + output)
    x = np.where(seen, np.where(x > 0, x / params.repetition_penalty, x * params.repetition_penalty), x)
    counts = np.bincount(output, minlength=len(x))
    x = x - params.frequency_penalty * counts
    x = x - params.presence_penalty * (counts > 0)
    assume(x.max() > -np.inf)
    if params.greedy:
        return int(x.argmax())
    x = x / params.temperature
    least = params.min_p * softmax(x).max()
    assume((abs(softmax(x) - least) > NEAR * least).all())
    x = keep(x, softmax(x) >= least)
    if 0 < params.top_k < len(x):
        x = keep(x, x >= np.sort(x)[-params.top_k])
    order = np.argsort(-x, kind="stable")
    p = softmax(x)[order]
    before = np.cumsum(p) - p
    assume((abs(before - params.top_p) > NEAR).all())
    p = np.where(before < params.top_p, p, 0)
    if params.top_k <= 0 and params.top_p == 1 and params.min_p == 0:
        order, p = ids, softmax(x)  # nothing was left out, so nothing was sorted
    edges = np.cumsum(p) / p.sum()
    assume((abs(edges - u) > NEAR).all())
    return int(order[np.argmax(edges > u)])


@pytest.mark.parametrize("where", CHOOSERS)
@examples(40)
@given(PARAMS, st.lists(IDS, min_size=1, max_size=4), st.lists(IDS, max_size=6), st.integers(0, 10**6), st.booleans())
def test_equals_the_transcription(
    where: str, wishes: dict[str, Any], prompt: list[int], output: list[int], seed: int, coarse: bool
) -> None:
    """`coarse` logits are often equal, as in bfloat16."""
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3
    logits = (logits if coarse else logits * 1024).round() / (1 if coarse else 1024)
    params, history = SamplingParams(seed=seed, max_tokens=99, **wishes), [*prompt, *output]
    (u,) = uniform([seed], [len(history)])
    wanted = literal(logits[0].double().numpy(), params, prompt, output, float(u))
    wish = row(history, len(prompt), params)
    sampled = CHOOSERS[where](logits.clone(), [wish]).read()  # type: ignore[operator]
    assert (sampled.tokens, sampled.errors) == ([wanted], {})


@pytest.mark.parametrize("where", CHOOSERS)
@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"logit_bias": {0: 2.0}, "repetition_penalty": 4.0}, 1),  # (1 + 2) / 4 < 1.5; the other way round 0.25 + 2
        ({"logit_bias": {0: -2.0, 1: -2.0}, "repetition_penalty": 4.0}, 1),  # -1 becomes -4
        ({"allowed_token_ids": (0,), "logit_bias": {1: 100.0}}, 0),
        ({"bad_words_token_ids": ((1,),), "logit_bias": {1: 100.0}}, 0),
        ({"min_tokens": 5, "stop_token_ids": (1,), "logit_bias": {1: 100.0}}, 0),
    ],
)
def test_what_is_decided_by_the_order(where: str, fields: dict[str, Any], wanted: int) -> None:
    params = SamplingParams(temperature=0, max_tokens=9, **fields)
    wish = row((0,), 1, params)
    logits = torch.tensor([[1.0, 1.5, -9.0, -9.0]])
    assert CHOOSERS[where](logits, [wish]).read().tokens == [wanted]  # type: ignore[operator]
