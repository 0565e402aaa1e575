"""Copies sampled tokens on the device into the batch that follows."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


def follow(tokens: Tensor, sources: Tensor, sampled: Tensor) -> None:
    """tokens[row] = sampled[sources[row]] in place, where the source is not negative.

    `tokens` and `sources` are `[D]` int32, `sampled` `[S]` int64.
    """
    if len(sources):
        _follow[(triton.cdiv(len(sources), BLOCK),)](tokens, sources, sampled, len(sources), block=BLOCK, num_warps=1)


@triton.jit(do_not_specialize=["rows"])
def _follow(tokens, sources, sampled, rows, block: tl.constexpr):
    row = tl.program_id(0) * block + tl.arange(0, block)
    source = tl.load(sources + row, mask=row < rows, other=-1)
    token = tl.load(sampled + source, mask=source >= 0, other=0)
    tl.store(tokens + row, token.to(tl.int32), mask=source >= 0)
