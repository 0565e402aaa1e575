"""Attention of all decodes, from the projection to the heads' outputs, in one call.

It normalises and rotates queries and keys, stores keys and values, and attends over K/V blocks where they are
(flash-decoding: Dao et al., 2023). A sequence is cut into pieces of `PIECE` tokens; a task is one piece and one key/value
head. It reads each key and value once for all query heads of the group, and keeps a running maximum and sum (online
softmax), so nothing of the size of the context is stored:

    for block of the piece:
        s    = q · keysᵀ                      [group, block_size]
        m'   = max(m, max s);  a = exp(m - m')
        p    = exp(s - m')
        acc  = acc · a + p · values           [group, head_dim]
        l, m = l · a + sum p, m'
    out = sum over pieces of acc · exp(m - M) / sum over pieces of l · exp(m - M)      M = the largest m

Pieces depend on a sequence's length alone, so what a request gets does not depend on its neighbours or on the number of
threads. Sizes are constants of the closure, so that LLVM unrolls and vectorises the inner loops; they must stay plain
numbers, because Numba's cache on disk tells kernels apart by them.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numba
import numpy as np

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, FAST, exp, load, rounded
from orcinus.runtime.cpu_kernels.heads import prepared_head

NOTHING = F32(-1e30)  # a score with weight 0; unlike -inf it makes no NaN
PIECE = 512  # tokens; long enough that joining pieces costs nothing beside reading them


def piece_size(block_size: int) -> int:
    """Tokens of a piece: whole blocks."""
    return max(1, PIECE // block_size) * block_size


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
                s += query[g, d] * load(keys[block, head, i, d])
            scores[g, i] = s


@numba.njit(fastmath=FAST, inline="always")
def _weigh(scores, peak, total, acc, task, group, block_size, head_dim):
    """Turn scores into weights p; rescale the sums under the new maximum."""
    for g in range(group):
        m = peak[task, g]
        for i in range(block_size):
            m = max(m, scores[g, i])
        shrink = exp(peak[task, g] - m)
        for d in range(head_dim):
            acc[task, g, d] *= shrink
        weight = F32(0)
        for i in range(block_size):
            p = exp(scores[g, i] - m)
            scores[g, i] = p
            weight += p
        peak[task, g] = m
        total[task, g] = total[task, g] * shrink + weight


@numba.njit(fastmath=FAST, inline="always")
def _accumulate(scores, values, block, head, begin, end, acc, task, group, head_dim):
    """acc += p · values."""
    for i in range(begin, end):
        for g in range(group):
            p = scores[g, i]
            for d in range(head_dim):
                acc[task, g, d] += p * load(values[block, head, i, d])


@numba.njit(fastmath=FAST, inline="always")
def _store_new(qkv, request, head, weight, eps, cos, sin, keys, values, block, offset, query, sizes):
    """Prepare and store the key and the value of a decode's own token."""
    group, head_dim, _ = sizes
    kv_heads = keys.shape[1]
    at = (kv_heads * group + head) * head_dim
    prepared_head(qkv, request, at, weight, eps, cos, sin, query, 0, head_dim)
    for d in range(head_dim):
        keys[block, head, offset, d] = rounded(query[0, d], keys)
    at += kv_heads * head_dim
    for d in range(head_dim):
        values[block, head, offset, d] = qkv[request, at + d]


@numba.njit(fastmath=FAST, inline="always")
def _attend_piece(
    task, request, head, begins, ends, length, qkv, query_norm, key_norm, eps, cos, sin, keys, values, tables, scale,
    sums, peaks, totals, sizes,
):  # fmt: skip
    """One task: the queries of a group of heads, over tokens [begins, ends)."""
    group, head_dim, block_size = sizes
    query, scores = np.empty((group, head_dim), np.float32), np.empty((group, block_size), np.float32)
    if ends == length:
        block, offset = tables[request, (length - 1) // block_size], (length - 1) % block_size
        _store_new(qkv, request, head, key_norm, eps, cos, sin, keys, values, block, offset, query, sizes)
    for g in range(group):
        at = (head * group + g) * head_dim
        prepared_head(qkv, request, at, query_norm, eps, cos, sin, query, g, head_dim)
        peaks[task, g], totals[task, g] = NOTHING, F32(0)
        for d in range(head_dim):
            query[g, d] *= scale
            sums[task, g, d] = F32(0)
    for b in range(begins // block_size, (ends + block_size - 1) // block_size):
        block = tables[request, b]
        begin, end = max(0, begins - b * block_size), min(block_size, ends - b * block_size)
        _score(query, keys, block, head, begin, end, scores, group, block_size, head_dim)
        _weigh(scores, peaks, totals, sums, task, group, block_size, head_dim)
        _accumulate(scores, values, block, head, begin, end, sums, task, group, head_dim)


@numba.njit(fastmath=FAST, inline="always")
def _join_pieces(request, head, first, last, sums, peaks, totals, out, sizes):
    """The output of a group of heads, from all pieces of a request."""
    group, head_dim = sizes[0], sizes[1]
    for g in range(group):
        m = NOTHING
        for at in range(first, last):
            m = max(m, peaks[at, g])
        total = F32(0)
        for at in range(first, last):
            share = exp(peaks[at, g] - m)
            total += totals[at, g] * share
            peaks[at, g] = share
        begin = (head * group + g) * head_dim
        for d in range(head_dim):
            x = F32(0)
            for at in range(first, last):
                x += sums[at, g, d] * peaks[at, g]
            out[request, begin + d] = rounded(x / total, out)


@numba.njit(inline="always")
def _pieces(lengths, reach, piece):
    """Each piece's request; and per request, its first piece in that list, then the length of the list.

    A request's pieces begin at multiples of `piece`; those out of reach are left out.
    """
    firsts = np.empty(len(lengths) + 1, np.int64)
    firsts[0] = 0
    for r in range(len(lengths)):
        length = np.int64(lengths[r])
        firsts[r + 1] = firsts[r] + (length + piece - 1) // piece - max(0, length - reach) // piece
    owners = np.empty(firsts[len(lengths)], np.int64)
    for r in range(len(lengths)):
        for place in range(firsts[r], firsts[r + 1]):
            owners[place] = r
    return owners, firsts


@cache
def decode_kernel(head_dim: int, group: int, block_size: int) -> Callable[..., None]:
    """Compile (at its first call) the kernel for one geometry.

    Arguments of the kernel: qkv `[T, (heads + 2 · kv_heads) · head_dim]`, whose first D rows decode; the weights of both norms
    `[head_dim]`, or empty, and their eps; cosine and sine `[T, head_dim / 2]`, or empty; keys and values `[num_blocks,
    kv_heads, block_size, head_dim]`; the decodes' block tables `[D, blocks]` and lengths `[D]` (0: padding); the scale; how far
    back a token sees; tokens of a piece, a multiple of the block size; and the output `[T, heads · head_dim]`. float32, or
    bfloat16 as uint16.
    """

    @numba.njit(parallel=True, fastmath=FAST, error_model="numpy")
    def decode(qkv, query_norm, key_norm, eps, cos, sin, keys, values, tables, lengths, scale, reach, piece, out):
        requests, kv_heads = lengths.shape[0], keys.shape[1]
        owners, firsts = _pieces(lengths, reach, piece)
        count = len(owners)
        sums = np.empty((count * kv_heads, group, head_dim), np.float32)
        peaks = np.empty((count * kv_heads, group), np.float32)
        totals = np.empty((count * kv_heads, group), np.float32)
        for task in numba.prange(count * kv_heads):
            # neighbouring tasks are different pieces: each thread gets its share of the long sequences
            head, place = task // count, task % count
            request = owners[place]
            length = np.int64(lengths[request])
            reached = max(0, length - reach)
            begins = (reached // piece + place - firsts[request]) * piece
            _attend_piece(
                task, request, head, max(begins, reached), min(length, begins + piece), length, qkv, query_norm, key_norm, eps,
                cos, sin, keys, values, tables, scale, sums, peaks, totals, (group, head_dim, block_size),
            )  # fmt: skip
        for request in range(requests):
            for head in range(kv_heads):
                first, last = head * count + firsts[request], head * count + firsts[request + 1]
                _join_pieces(request, head, first, last, sums, peaks, totals, out, (group, head_dim))

    kernel: Callable[..., None] = keep_compiled(decode)
    return kernel
