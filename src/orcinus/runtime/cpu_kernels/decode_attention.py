"""Attention of all decodes in one call, over K/V blocks where they are (flash-decoding: Dao et al., 2023).

A sequence is cut into pieces of `PIECE` tokens; a task is one piece and one key/value head. It reads each key and value
once for all query heads of the group, and keeps a running maximum and sum (online softmax), so nothing of the size of the
context is stored:

    for block of the piece:
        s    = q · keysᵀ                      [group, block_size]; with a soft cap c: c · tanh(s / c)
        m'   = max(m, max s);  a = exp(m - m')
        p    = exp(s - m')
        acc  = acc · a + p · values           [group, head_dim]
        l, m = l · a + sum p, m'
    out = sum over pieces of acc · exp(m - M) / sum over pieces of l · exp(m - M)      M = the largest m

Pieces depend on a sequence's length alone, so what a request gets does not depend on its neighbours or on the number of
threads. Compiling a kernel takes several seconds, so one kernel of a number format serves all head sizes.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, FAST, KVArrays, exp, load, prefetch, rounded, tanh
from orcinus.runtime.cpu_kernels.token_products import QUERIES, TOKENS, VECTORS, add_weighted, dots
from orcinus.runtime.cpu_kernels.vectors import LANES

NOTHING = F32(-1e30)  # a score with weight 0; unlike -inf it makes no NaN
PIECE = 512  # tokens; long enough that joining pieces costs nothing beside reading them
LINE = 64  # bytes of a cache line
EVERYTHING = 2**62  # larger than any sequence
Floats: TypeAlias = NDArray[Any]  # float32, or bfloat16 as uint16
Words: TypeAlias = NDArray[np.int32]


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _scaled(x, scales, block, head, i):
    """x times the scale of a key or value that is stored as 8-bit integers."""
    return x if scales is None else x * scales[block, head, i]


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _score(query, keys, scales, block, head, begin, end, cap, scores):
    """s = q · keysᵀ for places [begin, end) of a block.

    Other places get weight 0.
    """
    group, block_size, dim = len(query), keys.shape[2], keys.shape[3]
    first, whole = (block * keys.shape[1] + head) * block_size * dim, dim // LANES * LANES
    scores[:] = NOTHING
    for g in range(0, group, QUERIES):
        queries = np.int64(QUERIES if g + QUERIES <= group else 1)
        i = begin
        while i < end:
            tokens = np.int64(TOKENS if i + TOKENS <= end else 1)
            dots(query, g * dim, queries, keys, first + i * dim, tokens, dim, whole, scores, g * block_size + i, block_size)
            i += tokens
    if whole == dim and scales is None and cap == 0:
        return
    for g in range(group):
        for i in range(begin, end):
            s = scores[g, i]
            for d in range(whole, dim):
                s += query[g, d] * load(keys[block, head, i, d])
            s = _scaled(s, scales, block, head, i)
            scores[g, i] = s if cap == 0 else cap * tanh(s / cap)


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _weigh(scores, peaks, totals, sums):
    """Turn scores into weights p; rescale the sums under the new maximum."""
    group, block_size = scores.shape
    for g in range(group):
        m = peaks[g]
        for i in range(block_size):
            m = max(m, scores[g, i])
        shrink = exp(peaks[g] - m)
        if m > peaks[g]:
            row = sums[g]
            for d in range(len(row)):
                row[d] *= shrink
        weight = F32(0)
        for i in range(block_size):
            p = exp(scores[g, i] - m)
            scores[g, i] = p
            weight += p
        peaks[g] = m
        totals[g] = totals[g] * shrink + weight


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _accumulate(weights, values, scales, block, head, begin, end, sums):
    """acc += p · values."""
    group, block_size, dim = len(sums), values.shape[2], values.shape[3]
    first, whole = (block * values.shape[1] + head) * block_size * dim, dim // LANES * LANES
    if whole < dim or scales is not None:
        for g in range(group):
            for i in range(begin, end):
                weights[g, i] = p = _scaled(weights[g, i], scales, block, head, i)
                for d in range(whole, dim):
                    sums[g, d] += p * load(values[block, head, i, d])
    for g in range(0, group, QUERIES):
        queries = np.int64(QUERIES if g + QUERIES <= group else 1)
        column = np.int64(0)
        while column < whole:
            vectors = np.int64(VECTORS if column + VECTORS * LANES <= whole else 1)
            add_weighted(
                weights, g * block_size + begin, block_size, queries, values, first + begin * dim + column, dim, end - begin,
                vectors, sums, g * dim + column,
            )  # fmt: skip
            column += vectors * LANES


@numba.njit(error_model="numpy", forceinline=True)
def _prefetch(x, block, head):
    """Ask for a head's part of a block while the block before is computed.

    Blocks lie anywhere, and a processor foresees what is read next only within a page of memory.
    """
    size = x.shape[2] * x.shape[3]
    first = (block * x.shape[1] + head) * size
    for at in range(first, first + size, LINE // x.itemsize):
        prefetch(x, at)


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _attend_piece(
    task, owners, firsts, qkv, kv, tables, lengths, scale, cap, reach, piece, sums, peaks, totals
):  # fmt: skip
    """One task: the queries of a group of heads, over one piece of a sequence."""
    keys, values, key_scales, value_scales = kv
    block_size, (group, head_dim) = keys.shape[2], sums.shape
    # neighbouring tasks are different pieces: each thread gets its share of the long sequences
    head, place = task // len(owners), task % len(owners)
    request = owners[place]
    length = np.int64(lengths[request])
    reached = max(0, length - reach)
    begins = (reached // piece + place - firsts[request]) * piece
    begins, ends = max(begins, reached), min(length, begins + piece)
    query, scores = np.empty((group, head_dim), np.float32), np.empty((group, block_size), np.float32)
    for g in range(group):
        at = (head * group + g) * head_dim
        peaks[g], totals[g] = NOTHING, F32(0)
        for d in range(head_dim):
            query[g, d] = load(qkv[request, at + d]) * scale
            sums[g, d] = F32(0)
    for b in range(begins // block_size, (ends + block_size - 1) // block_size):
        block = np.int64(tables[request, b])
        if (b + 1) * block_size < ends:
            _prefetch(keys, np.int64(tables[request, b + 1]), head)
            _prefetch(values, np.int64(tables[request, b + 1]), head)
        begin, end = max(0, begins - b * block_size), min(block_size, ends - b * block_size)
        _score(query, keys, key_scales, block, head, begin, end, cap, scores)
        _weigh(scores, peaks, totals, sums)
        _accumulate(scores, values, value_scales, block, head, begin, end, sums)


@numba.njit(fastmath=FAST, error_model="numpy")
def _join_pieces(request, head, first, last, sums, peaks, totals, out):
    """The output of a group of heads, from all pieces of a request."""
    group, head_dim = sums.shape[1], sums.shape[2]
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


@numba.njit
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


@numba.njit(parallel=True, error_model="numpy")
def _attend_pieces(owners, firsts, qkv, kv, tables, lengths, scale, cap, reach, piece, sums, peaks, totals):
    """All tasks, on all threads. Indices are cast to one type: the function would be compiled again for another."""
    for task in numba.prange(len(sums)):
        _attend_piece(
            np.int64(task), owners, firsts, qkv, kv, tables, lengths, scale, cap, reach, piece, sums[task], peaks[task],
            totals[task],
        )  # fmt: skip


@numba.njit(error_model="numpy")
def _join(firsts, sums, peaks, totals, out):
    kv_heads = len(sums) // firsts[-1] if firsts[-1] else 0
    for request in range(len(firsts) - 1):
        for head in range(kv_heads):
            first, last = head * firsts[-1] + firsts[request], head * firsts[-1] + firsts[request + 1]
            _join_pieces(request, head, first, last, sums, peaks, totals, out)


_pieces, _attend_pieces, _join = keep_compiled(_pieces), keep_compiled(_attend_pieces), keep_compiled(_join)


@numba.njit(error_model="numpy")
def attend_decodes(qkv, kv, tables, lengths, scale, cap, reach, piece, out):
    """`decode_attention` for kernels: `reach` is the window, `piece` its number of tokens, and a cap of 0 is none."""
    kv_heads, dim = kv[0].shape[1], kv[0].shape[3]
    group = out.shape[1] // (kv_heads * dim)
    owners, firsts = _pieces(lengths, reach, piece)
    tasks = len(owners) * kv_heads
    sums, peaks, totals = np.empty((tasks, group, dim), F32), np.empty((tasks, group), F32), np.empty((tasks, group), F32)
    _attend_pieces(owners, firsts, qkv, kv, tables, lengths, scale, cap, reach, piece, sums, peaks, totals)
    _join(firsts, sums, peaks, totals, out)


attend_decodes = keep_compiled(attend_decodes)


def attention_scalars(
    scale: float, window: int | None, soft_cap: float | None, block_size: int
) -> tuple[np.float32, np.float32, int, int]:
    """Scale, soft cap, reach and piece, as kernels take them."""
    piece = max(1, PIECE // block_size) * block_size
    return F32(scale), F32(soft_cap or 0), EVERYTHING if window is None else window, piece


def decode_attention(
    qkv: Floats,
    kv: KVArrays,
    tables: Words,
    lengths: Words,
    scale: float,
    window: int | None,
    out: Floats,
    soft_cap: float | None = None,
) -> None:
    """Attention of all decodes over their sequences, their own tokens included.

    qkv `[T, (heads + 2 · kv_heads) · head_dim]`, whose first D rows decode: `prepare_heads` has seen them; keys and values,
    the `arrays` of a `LayerKV`; the decodes' block tables `[D, blocks]` and lengths `[D]` (0: padding); the scale; how far back
    a token sees; the output `[T, heads · head_dim]`; and the scores' soft cap. float32, or bfloat16 as uint16.
    """
    attend_decodes(qkv, kv, tables, lengths, *attention_scalars(scale, window, soft_cap, kv[0].shape[2]), out)
