"""The uniform numbers of `runtime.random`, on a device (Philox4x32-10).

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Whole numbers only, so every bit is the same.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


def uniform(seeds: Tensor, positions: Tensor) -> Tensor:
    """One uniform number of [0, 1) per (seed, position), as float64.

    It has 53 random bits. Both inputs are `[n]` int64; a seed's 64 bits are read as signed.
    """
    out = torch.empty(seeds.shape, dtype=torch.float64, device=seeds.device)
    if len(out):
        _uniform[(triton.cdiv(len(out), BLOCK),)](seeds, positions, out, len(out), block=BLOCK)
    return out


@triton.jit
def _round(x0, x1, x2, x3, k0, k1):
    first = x0 * 0xD2511F53
    second = x2 * 0xCD9E8D57
    low = 0xFFFFFFFF
    return (second >> 32) ^ x1 ^ k0, second & low, (first >> 32) ^ x3 ^ k1, first & low


@triton.jit
def uniform_of(seed, position):
    """The number of each pair of int64, float64."""
    low = 0xFFFFFFFF
    key, counter = seed.to(tl.uint64, bitcast=True), position.to(tl.uint64, bitcast=True)
    k0, k1 = key & low, key >> 32
    x0, x1, x2, x3 = counter & low, counter >> 32, counter ^ counter, counter ^ counter
    for _ in tl.static_range(10):
        x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1)
        k0 = (k0 + 0x9E3779B9) & low
        k1 = (k1 + 0xBB67AE85) & low
    return ((x0 << 21) | (x1 >> 11)).to(tl.float64) * 1.1102230246251565e-16  # 2⁻⁵³


@triton.jit
def _uniform(seeds, positions, out, number, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < number
    u = uniform_of(tl.load(seeds + at, mask=inside, other=0), tl.load(positions + at, mask=inside, other=0))
    tl.store(out + at, u, mask=inside)
