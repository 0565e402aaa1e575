"""The decode kernel for CPUs: flash-decoding over K/V blocks, compiled by Numba.

Every (key/value head, request) pair is one task. It walks the request's blocks once, reads each key and value once for
all query heads of the group, and keeps a running maximum and sum (online softmax), so nothing is copied and nothing of
the size of the context is stored:

    for block of the sequence:
        s    = q · keysᵀ                      [group, block_size]
        m'   = max(m, max s);  a = exp(m - m')
        p    = exp(s - m')
        acc  = acc · a + p · values           [group, head_dim]
        l, m = l · a + sum p, m'
    out = acc / l

Sizes are constants of the closure, so that LLVM unrolls and vectorises the inner loops; the exponential is a polynomial,
because a call of `exp` per score would cost more than reading the key. Numba caches compiled kernels on disk, by the
values of the closure: these must stay plain numbers, because it never finds a function again in another process.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numba
import numpy as np
from numba.extending import overload

from orcinus.runtime.compiled import keep_compiled

F32 = np.float32
LOG2_E = F32(1.4426950408889634)
EXP2 = tuple(F32(c) for c in (1.8775767e-3, 8.9893397e-3, 5.5826318e-2, 2.4015361e-1, 6.9315308e-1, 9.9999994e-1))
NOTHING = F32(-1e30)  # a score with weight 0; unlike -inf it makes no NaN
FAST = {"nnan", "nsz", "arcp", "contract", "afn", "reassoc"}  # let LLVM reorder sums; infinities stay meaningful


@numba.njit(fastmath=FAST, inline="always")
def _exp(x):
    """e**x for x <= 0 in float32; relative error below 4e-6.

    2**whole by its bits times a polynomial for 2**fraction.
    """
    t = max(x * LOG2_E, F32(-126))
    whole = np.floor(t)
    f = t - whole
    p = ((((EXP2[0] * f + EXP2[1]) * f + EXP2[2]) * f + EXP2[3]) * f + EXP2[4]) * f + EXP2[5]
    return p * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


def _load(x):
    """An element as float32; bfloat16 comes as its 16 bits."""


@overload(_load, inline="always")
def _load_of(x):
    if x == numba.types.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


def _store(array, row, head, d, x):
    """Store a float32; bfloat16 is rounded to nearest, ties to even."""


@overload(_store, inline="always")
def _store_into(array, row, head, d, x):
    if array.dtype == numba.types.uint16:

        def narrow(array, row, head, d, x):
            bits = np.float32(x).view(np.uint32)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            array[row, head, d] = np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

        return narrow

    def plain(array, row, head, d, x):
        array[row, head, d] = x

    return plain


@numba.njit(fastmath=FAST, inline="always")
def _score(query, keys, block, head, begin, end, scores, group, block_size, head_dim):
    """s = q · keysᵀ for places [begin, end) of a block.

    Other places get weight 0.
    """
    for g in range(group):
        for i in range(block_size):
            scores[g, i] = NOTHING
    for i in range(begin, end):
        for g in range(group):
            s = F32(0)
            for d in range(head_dim):
                s += query[g, d] * _load(keys[block, head, i, d])
            scores[g, i] = s


@numba.njit(fastmath=FAST, inline="always")
def _weigh(scores, peak, total, acc, group, block_size, head_dim):
    """Turn scores into weights p; rescale the sums under the new maximum."""
    for g in range(group):
        m = peak[g]
        for i in range(block_size):
            m = max(m, scores[g, i])
        shrink = _exp(peak[g] - m)
        for d in range(head_dim):
            acc[g, d] *= shrink
        weight = F32(0)
        for i in range(block_size):
            p = _exp(scores[g, i] - m)
            scores[g, i] = p
            weight += p
        peak[g] = m
        total[g] = total[g] * shrink + weight


@numba.njit(fastmath=FAST, inline="always")
def _accumulate(scores, values, block, head, begin, end, acc, group, head_dim):
    """acc += p · values."""
    for i in range(begin, end):
        for g in range(group):
            p = scores[g, i]
            for d in range(head_dim):
                acc[g, d] += p * _load(values[block, head, i, d])


@cache
def decode_kernel(head_dim: int, group: int, block_size: int) -> Callable[..., None]:
    """Compile (at its first call) the kernel for one geometry.

    Arguments of the kernel: q `[T, heads, head_dim]`, whose first D rows decode, keys and values `[num_blocks, kv_heads,
    block_size, head_dim]`, the decodes' block tables `[D, blocks]` and lengths `[D]`, the scale, how far back a token sees,
    and the output, shaped like q. float32, or bfloat16 as uint16.
    """

    @numba.njit(parallel=True, fastmath=FAST, error_model="numpy")
    def decode(q, keys, values, tables, lengths, scale, reach, out):
        requests, kv_heads = lengths.shape[0], keys.shape[1]
        for task in numba.prange(requests * kv_heads):
            # neighbouring tasks are different requests: the long ones spread over all threads
            head, request = task // requests, task % requests
            length = np.int64(lengths[request])
            first = max(0, length - reach)
            query, acc = np.empty((group, head_dim), np.float32), np.zeros((group, head_dim), np.float32)
            peak, total = np.full(group, NOTHING), np.zeros(group, np.float32)
            scores = np.empty((group, block_size), np.float32)
            for g in range(group):
                for d in range(head_dim):
                    query[g, d] = _load(q[request, head * group + g, d]) * scale
            for b in range(first // block_size, (length + block_size - 1) // block_size):
                block = tables[request, b]
                begin, end = max(0, first - b * block_size), min(block_size, length - b * block_size)
                _score(query, keys, block, head, begin, end, scores, group, block_size, head_dim)
                _weigh(scores, peak, total, acc, group, block_size, head_dim)
                _accumulate(scores, values, block, head, begin, end, acc, group, head_dim)
            for g in range(group):
                for d in range(head_dim):
                    _store(out, request, head * group + g, d, acc[g, d] / total[g])

    kernel: Callable[..., None] = keep_compiled(decode)
    return kernel
