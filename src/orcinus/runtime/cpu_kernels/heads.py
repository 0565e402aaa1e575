"""Queries and keys as attention takes them: normalised, rotated, written into K/V blocks.

`prepare_kernel` does it for the tokens of prompts, in one pass over the projection; decodes do it inside their attention.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numba
import numpy as np

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, FAST, load, rounded


@numba.njit(fastmath=FAST, inline="always")
def prepared_head(qkv, row, begin, weight, eps, cos, sin, out, place, dim):
    """Write one head of a row, normalised and rotated, to `out[place]` (float32)."""
    inverse = F32(1)
    if len(weight):
        squares = F32(0)
        for d in range(dim):
            x = load(qkv[row, begin + d])
            squares += x * x
        inverse = F32(1) / np.sqrt(squares / F32(dim) + eps)
    for d in range(dim):
        x = load(qkv[row, begin + d])
        out[place, d] = x * inverse * load(weight[d]) if len(weight) else x
    if len(cos):  # pairs (i, i + dim / 2), as Llama's (RoFormer)
        half = dim // 2
        for d in range(half):
            first, second = out[place, d], out[place, d + half]
            c, s = load(cos[row, d]), load(sin[row, d])
            out[place, d] = first * c - second * s
            out[place, d + half] = second * c + first * s


@cache
def prepare_kernel(head_dim: int) -> Callable[..., None]:
    """Compile (at its first call) the kernel for one geometry.

    Arguments of the kernel: qkv `[T, (heads + 2 · kv_heads) · head_dim]`, whose rows from `first` on get their queries and keys
    normalised and rotated, in place; the number of query heads; the weights of both norms `[head_dim]`, or empty, and their
    eps; cosine and sine `[T, head_dim / 2]`, or empty; keys and values `[num_blocks, kv_heads, block_size, head_dim]`; each
    row's block (negative: no slot) and place inside it `[T]`.
    """

    @numba.njit(parallel=True, fastmath=FAST, error_model="numpy")
    def prepare(qkv, first, heads, query_norm, key_norm, eps, cos, sin, keys, values, blocks, offsets):
        kv_heads = keys.shape[1]
        for task in numba.prange(qkv.shape[0] - first):
            row = first + task
            head = np.empty((1, head_dim), np.float32)
            block, offset = blocks[row], offsets[row]
            for h in range(heads + kv_heads):
                begin = h * head_dim
                weight = query_norm if h < heads else key_norm
                if len(weight) or len(cos):
                    prepared_head(qkv, row, begin, weight, eps, cos, sin, head, 0, head_dim)
                    for d in range(head_dim):
                        qkv[row, begin + d] = rounded(head[0, d], qkv)
            if block >= 0:
                for h in range(kv_heads):
                    key, value = (heads + h) * head_dim, (heads + kv_heads + h) * head_dim
                    for d in range(head_dim):
                        keys[block, h, offset, d] = qkv[row, key + d]
                    for d in range(head_dim):
                        values[block, h, offset, d] = qkv[row, value + d]

    kernel: Callable[..., None] = keep_compiled(prepare)
    return kernel
