"""Queries and keys as attention takes them: normalised, rotated, written into K/V blocks.

One pass over the projection of all tokens, in place.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, FAST, load, rounded


@numba.njit(fastmath=FAST, error_model="numpy")
def _prepare_head(qkv, row, begin, weight, eps, cos, sin, dim):
    if len(weight):
        squares = F32(0)
        for d in range(dim):
            squares += load(qkv[row, begin + d]) * load(qkv[row, begin + d])
        inverse = F32(1) / np.sqrt(squares / F32(dim) + eps)
        for d in range(dim):
            qkv[row, begin + d] = rounded(load(qkv[row, begin + d]) * inverse * load(weight[d]), qkv)
    if len(cos):  # pairs (i, i + dim / 2), as Llama's (RoFormer)
        half = dim // 2
        for d in range(half):
            first, second = load(qkv[row, begin + d]), load(qkv[row, begin + half + d])
            c, s = load(cos[row, d]), load(sin[row, d])
            qkv[row, begin + d] = rounded(first * c - second * s, qkv)
            qkv[row, begin + half + d] = rounded(second * c + first * s, qkv)


@numba.njit(fastmath=FAST, error_model="numpy")
def _prepare_row(row, qkv, heads, query_norm, key_norm, eps, cos, sin, keys, values, blocks, offsets):
    kv_heads, head_dim = keys.shape[1], keys.shape[3]
    if len(query_norm) or len(cos):
        for head in range(heads + kv_heads):
            weight = query_norm if head < heads else key_norm
            _prepare_head(qkv, row, head * head_dim, weight, eps, cos, sin, head_dim)
    block, offset = blocks[row], offsets[row]
    if block >= 0:
        for head in range(kv_heads):
            key, value = (heads + head) * head_dim, (heads + kv_heads + head) * head_dim
            for d in range(head_dim):
                keys[block, head, offset, d] = qkv[row, key + d]
            for d in range(head_dim):
                values[block, head, offset, d] = qkv[row, value + d]


@numba.njit(error_model="numpy")
def prepare_heads(qkv, heads, query_norm, key_norm, eps, cos, sin, keys, values, blocks, offsets):
    """Normalise and rotate queries and keys in place; store keys and values.

    qkv `[T, (heads + 2 · kv_heads) · head_dim]`; the number of query heads; the weights of both norms `[head_dim]`, or empty,
    and their eps; cosine and sine `[T, head_dim / 2]`, or empty; keys and values `[num_blocks, kv_heads, block_size,
    head_dim]`; each row's block (negative: no slot) and place inside it `[T]`. float32, or bfloat16 as uint16.
    """
    for row in range(len(qkv)):
        _prepare_row(row, qkv, heads, query_norm, key_norm, eps, cos, sin, keys, values, blocks, offsets)


@numba.njit(parallel=True, error_model="numpy")
def prepare_many_heads(qkv, heads, query_norm, key_norm, eps, cos, sin, keys, values, blocks, offsets):
    """`prepare_heads`, on all threads."""
    for row in numba.prange(len(qkv)):
        _prepare_row(np.int64(row), qkv, heads, query_norm, key_norm, eps, cos, sin, keys, values, blocks, offsets)


prepare_heads, prepare_many_heads = keep_compiled(prepare_heads), keep_compiled(prepare_many_heads)
