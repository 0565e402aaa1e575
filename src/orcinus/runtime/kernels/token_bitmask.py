"""Sets the logits of forbidden tokens to -inf, in place, by bitmask."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # logits of a program, 16 a thread


def apply_token_bitmask(logits: Tensor, rows: Tensor, bitmasks: Tensor) -> None:
    """Forbid tokens in some rows of `logits` `[S, vocab]`, in place.

    `rows` are `[M]` int32; the logits may be strided by rows.

    `bitmasks` `[M, ceil(vocab / 32)]` int32 are those of `runtime.token_bitmask`. A damaged logit (NaN, +inf) stays one.
    """
    size, words = logits.shape[1], bitmasks.shape[1]
    _apply_token_bitmask[(len(rows), triton.cdiv(size, BLOCK))](
        logits, rows, bitmasks, logits.stride(0), size, words, block=BLOCK, num_warps=8
    )


@triton.jit
def _apply_token_bitmask(logits, rows, bitmasks, stride, size, words, block: tl.constexpr):
    index = tl.program_id(0).to(tl.int64)
    token = tl.program_id(1) * block + tl.arange(0, block)
    word = tl.load(bitmasks + index * words + token // 32, mask=token < size, other=-1)
    forbidden = ((word >> (token % 32)) & 1) == 0
    to = logits + tl.load(rows + index).to(tl.int64) * stride + token
    x = tl.load(to, mask=forbidden, other=0.0)
    tl.store(to, x + float("-inf"), mask=forbidden)  # a sum: with NaN or +inf it is NaN
