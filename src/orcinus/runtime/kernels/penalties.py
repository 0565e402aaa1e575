"""Penalties and logit biases, in place, before a token is chosen.

The host knows a request's history, so each row brings a short list of distinct ids. The formulas are those of
`runtime.sampling.adjust`: repetition penalty from CTRL (Keskar et al., 2019, section 4.1), presence and frequency penalties as
in the OpenAI API.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # ids a program changes


def penalise(logits: Tensor, ids: Tensor, counts: Tensor, repetition: Tensor, presence: Tensor, frequency: Tensor) -> None:
    """Change `logits` `[S, vocab]` in place where tokens were seen.

    `ids` `[S, most]` int32 are the distinct tokens of prompt and output, padded with -1; `counts` `[S, most]` int32 say how
    often each was generated (0 = only in the prompt). A seen token's logit is divided by `repetition` if positive, else
    multiplied; a generated one then loses `presence` + `frequency` · count. The penalties are `[S]` float32.
    """
    _launch(_penalise, logits, ids, counts, repetition, presence, frequency)


def add_biases(logits: Tensor, ids: Tensor, biases: Tensor) -> None:
    """Add `biases` to the logits of `ids`, in place.

    `biases` are `[S, most]` float32, `ids` distinct `[S, most]` int32, padded with -1.

    A bias of -inf forbids a token.
    """
    _launch(_add_biases, logits, ids, biases)


def _launch(kernel: triton.JITFunction, logits: Tensor, ids: Tensor, *others: Tensor) -> None:
    rows, most = ids.shape
    if rows and most:
        kernel[(rows, triton.cdiv(most, BLOCK))](logits, ids, *others, logits.stride(0), most, block=BLOCK, num_warps=4)


@triton.jit(do_not_specialize=["most"])  # it changes from batch to batch
def _penalise(logits, ids, counts, repetition, presence, frequency, stride, most, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    token = tl.load(ids + row * most + at, mask=at < most, other=-1)
    count = tl.load(counts + row * most + at, mask=at < most, other=0)
    x = tl.load(logits + row * stride + token, mask=token >= 0, other=0.0)
    once = tl.load(repetition + row)
    x = tl.where(x > 0, tl.fdiv(x, once + tl.zeros_like(x), ieee_rounding=True), x * once)
    lost = tl.load(presence + row) + tl.load(frequency + row) * count.to(tl.float32)
    tl.store(logits + row * stride + token, tl.where(count > 0, x - lost, x), mask=token >= 0)


@triton.jit(do_not_specialize=["most"])
def _add_biases(logits, ids, biases, stride, most, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    token = tl.load(ids + row * most + at, mask=at < most, other=-1)
    bias = tl.load(biases + row * most + at, mask=at < most, other=0.0)
    x = tl.load(logits + row * stride + token, mask=token >= 0, other=0.0)
    tl.store(logits + row * stride + token, x + bias, mask=token >= 0)
