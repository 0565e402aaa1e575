"""Queries and keys as attention takes them: normalised, rotated, written into K/V blocks.

One pass over the projection of all tokens, in place.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, load, rounded, sum_of_squares
from orcinus.runtime.cpu_kernels.quantized_rows import quantize_row


@exact(forceinline=True)
def _norm_head(x, weight, eps):
    inverse = F32(1) / np.sqrt(sum_of_squares(x, F32(0)) / F32(len(x)) + eps)
    for d in range(len(x)):
        x[d] = rounded(load(x[d]) * inverse * load(weight[d]), x)


@exact(forceinline=True)
def _rotate_head(first, second, cos, sin):
    """Rotate pairs (i, i + half), as Llama's (RoFormer)."""
    for d in range(len(first)):
        a, b, c, s = load(first[d]), load(second[d]), load(cos[d]), load(sin[d])
        first[d] = rounded(a * c - b * s, first)
        second[d] = rounded(b * c + a * s, second)


@exact(forceinline=True)
def _store(source, target, scales, at):
    """A key or value, into its slot."""
    if scales is None:
        for d in range(len(source)):
            target[d] = source[d]
    else:
        scales[at] = quantize_row(source, target)


@exact
def _prepare_row(row, qkv, heads, query_norm, key_norm, eps, cos, sin, kv, blocks, offsets):
    """Heads are slices: an index that might be negative keeps LLVM from using vectors."""
    keys, values, key_scales, value_scales = kv
    kv_heads, dim = keys.shape[1], keys.shape[3]
    for head in range(heads + kv_heads):
        x, weight = qkv[row, head * dim : (head + 1) * dim], query_norm if head < heads else key_norm
        if len(weight):
            _norm_head(x, weight, eps)
        if len(cos):
            half = cos.shape[1]
            _rotate_head(x[:half], x[half : 2 * half], cos[row], sin[row])
    block, offset = blocks[row], offsets[row]
    if block >= 0:
        for head in range(kv_heads):
            key = (heads + head) * dim
            value = key + kv_heads * dim
            at = block, head, offset
            _store(qkv[row, key : key + dim], keys[at], key_scales, at)
            _store(qkv[row, value : value + dim], values[at], value_scales, at)


prepare_row = external(_prepare_row)


@exact
def prepare_heads(qkv, heads, query_norm, key_norm, eps, cos, sin, kv, blocks, offsets):
    """Normalise and rotate queries and keys in place; store keys and values.

    qkv `[T, (heads + 2 · kv_heads) · head_dim]`; the number of query heads; the weights of both norms `[head_dim]`, or empty,
    and their eps; cosine and sine `[T, rotated dimensions / 2]`, or empty; the `arrays` of a `LayerKV`; each row's block
    (negative: no slot) and place inside it `[T]`. float32, or bfloat16 as uint16.
    """
    for row in range(len(qkv)):
        prepare_row(row, qkv, heads, query_norm, key_norm, eps, cos, sin, kv, blocks, offsets)


@exact(parallel=True)
def prepare_many_heads(qkv, heads, query_norm, key_norm, eps, cos, sin, kv, blocks, offsets):
    """`prepare_heads`, on all threads."""
    for row in numba.prange(len(qkv)):
        prepare_row(np.int64(row), qkv, heads, query_norm, key_norm, eps, cos, sin, kv, blocks, offsets)


prepare_heads, prepare_many_heads = keep_compiled(prepare_heads), keep_compiled(prepare_many_heads)
