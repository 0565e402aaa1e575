"""Attention of all decodes in one call, over K/V blocks where they are (flash-decoding: Dao et al., 2023).

A sequence is cut into pieces of `PIECE` tokens; a task is one piece and one key/value head. It reads each key and value
once for all query heads of the group, and keeps a running maximum and sum, so nothing of the size of the context is stored:

    for tile of the piece:
        s    = scale · q · keysᵀ              [group, KEYS]; with a soft cap c: c · tanh(s / c)
        m'   = max(m, max s);  a = exp(m - m')
        p    = exp(s - m')
        acc  = acc · a + p · values           [group, head_dim]
        l, m = l · a + sum p, m'
    out = the pieces' acc, joined, / the pieces' l, joined

The order of all sums is that of `online_softmax`, which prompts follow, too. So what a token gets depends on its sequence
alone: not on its neighbours or the number of threads, nor on whether it is a decode or part of a prompt. Compiling a kernel
takes several seconds, so one kernel of a number format serves all head sizes.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels import online_softmax
from orcinus.runtime.cpu_kernels.elements import F32, KVArrays, rounded
from orcinus.runtime.cpu_kernels.factors import copy_factors, copy_weights, empty_factors, num_factors
from orcinus.runtime.cpu_kernels.online_softmax import (
    EVERYTHING,
    KEYS,
    LEAST,
    NOTHING,
    cap_scores,
    join_peaks,
    multiply_add,
    row_softmax,
)
from orcinus.runtime.cpu_kernels.token_products import (
    QUERIES,
    SQUARES,
    VECTORS,
    add_weighted,
    add_weighted_numbers,
    dots,
    fetch_rows,
)
from orcinus.runtime.cpu_kernels.vectors import LANES

AHEAD = SQUARES * LANES  # tokens
Floats: TypeAlias = NDArray[Any]  # float32, or bfloat16 as uint16
Words: TypeAlias = NDArray[np.int32]


@exact(forceinline=True)
def _find_rows(table, head, kv_heads, block_size, begin, end, rows):
    """Rows of tokens [begin, end) of a head in keys and values, seen as `[blocks · kv_heads · block_size, head_dim]`."""
    block, place = begin // block_size, begin % block_size
    row = (np.int64(table[block]) * kv_heads + head) * block_size + place
    for at in range(end - begin):
        rows[at] = row
        row, place = row + 1, place + 1
        if place == block_size and at + 1 < end - begin:
            block, place = block + 1, np.int64(0)
            row = (np.int64(table[block]) * kv_heads + head) * block_size
    for at in range(end - begin, len(rows)):
        rows[at] = rows[end - begin - 1]  # lanes without a token of their own


@exact(forceinline=True)
def _score(query, dim, keys, values, scales, rows, starts, begin, count, hidden, scale, cap, scores):
    """s = scale · q · keysᵀ for `count` tokens from place `begin` of the piece.

    The first `hidden` ones and other lanes get NOTHING.
    """
    group, steps = query.shape
    lanes = (count + LANES - 1) // LANES * LANES
    token = np.int64(0)
    while token < lanes:
        squares = np.int64(SQUARES if token + SQUARES * LANES <= lanes else 1)
        g = np.int64(0)
        while g < group:
            queries = np.int64(QUERIES if g + QUERIES <= group else 1)
            dots(
                query, g * steps, queries, keys, values, starts, begin + token, squares, dim, scale, scores, g * KEYS + token,
                KEYS, g == 0,
            )  # fmt: skip
            g += queries
        token += squares * LANES
    for query_at in range(group):
        row = scores[query_at]
        if scales is not None:
            flat = scales.reshape(-1)
            for at in range(count):
                row[at] *= flat[rows[begin + at]]
        if cap > 0:
            cap_scores(scores, query_at * KEYS, lanes, cap)
        for at in range(hidden):
            row[at] = NOTHING
        for at in range(count, lanes):
            row[at] = NOTHING


@exact(forceinline=True)
def _accumulate(weights, factors, scaled, keys, values, scales, rows, starts, begin, count, sums, totals):
    """acc += p · values; l += sum p. `factors` and `scaled` are room for p as factors, and with values' scales."""
    (group, dim), unused = sums.shape, np.int64(len(sums))
    whole, token, lanes = dim // LANES * LANES, np.int64(0), (count + LANES - 1) // LANES * LANES
    for query_at in range(group):
        if scales is None:
            copy_weights(weights, query_at * KEYS, lanes, factors, query_at * factors.shape[1])
        else:
            flat, line = scales.reshape(-1), weights[query_at]
            for lane in range(lanes):
                scaled[lane] = line[lane] * flat[rows[begin + lane]]
            copy_weights(scaled, 0, lanes, factors, query_at * factors.shape[1])
    while token < count:
        tokens, first = min(AHEAD, count - token), begin + token
        g = np.int64(0)
        while g < group:
            queries = np.int64(QUERIES if g + QUERIES <= group else 1)
            column, ahead = np.int64(0), np.int64(KEYS if g == 0 and first + KEYS + AHEAD <= len(starts) else 0)
            while column < dim:
                total, at = g if column == 0 else unused, g * KEYS + token
                if column < whole:
                    vectors = np.int64(VECTORS if column + VECTORS * LANES <= whole else 1)
                    add_weighted(
                        weights, at, KEYS, queries, factors, values, keys, starts, first, tokens, column, dim, vectors, sums,
                        g * dim + column, totals, total, ahead,
                    )  # fmt: skip
                    column += vectors * LANES
                else:
                    add_weighted_numbers(
                        weights, at, KEYS, queries, factors, values, keys, starts, first, tokens, column, dim, np.int64(1),
                        sums, g * dim + column, totals, total, np.int64(0),
                    )  # fmt: skip
                    column += 1
            g += queries
        token += tokens


@exact
def _attend_piece(qkv, kv, table, request, head, begin, end, scale, cap, sums, peaks, totals):
    """One task: the queries of a group of heads, over tokens [begin, end) of a sequence, which lie in one piece."""
    keys, values, key_scales, value_scales = kv
    kv_heads, block_size, (group, dim) = keys.shape[1], keys.shape[2], sums.shape
    query, scores = empty_factors((group, num_factors(dim, qkv)), qkv), np.empty((group, KEYS), np.float32)
    factors, scaled = empty_factors((group, num_factors(KEYS, qkv)), qkv), np.empty(KEYS, np.float32)
    hidden = begin % 2  # pairs of tokens begin at even ones
    begin -= hidden
    rows = np.empty(end - begin + AHEAD, np.int64)  # lanes behind the last token are those of some token, too
    _find_rows(table, head, kv_heads, block_size, begin, end, rows)
    if hidden:  # its block may be another's by now
        rows[0] = rows[1]
    starts = rows * dim
    fetch_rows(keys, starts, 0, min(KEYS, end - begin), dim)
    for g in range(group):
        copy_factors(qkv[request, (head * group + g) * dim : (head * group + g + 1) * dim], query[g])
    sums[:], totals[:], peaks[:] = F32(0), F32(0), LEAST
    at = begin
    while at < end:
        count = min(end, (at // KEYS + 1) * KEYS) - at
        _score(query, dim, keys, values, key_scales, rows, starts, at - begin, count, hidden, scale, cap, scores)
        hidden = 0
        for g in range(group):
            shrink = row_softmax(scores, g * KEYS, (count + LANES - 1) // LANES * LANES, peaks, g)
            if shrink != F32(1):
                totals[g] *= shrink
                row = sums[g]
                for d in range(dim):
                    row[d] *= shrink
        _accumulate(scores, factors, scaled, keys, values, value_scales, rows, starts, at - begin, count, sums, totals)
        at += count


attend_piece = external(_attend_piece)


@exact(forceinline=True)
def _join_pieces(first, last, sums, peaks, totals):
    """All pieces of a group of heads, joined into the first one."""
    for piece in range(first + 1, last):
        for g in range(sums.shape[1]):
            most, total, mine, earlier = join_peaks(peaks[piece, g], totals[piece, g], peaks[first, g], totals[first, g])
            peaks[first, g], totals[first, g] = most, total
            target, source = sums[first, g], sums[piece, g]
            for d in range(len(target)):
                target[d] = multiply_add(source[d], mine, target[d] * earlier)


@exact(forceinline=True)
def _write(request, head, sums, totals, out):
    """The output of a group of heads."""
    group, dim = sums.shape
    for g in range(group):
        source, target = sums[g], out[request, (head * group + g) * dim : (head * group + g + 1) * dim]
        inverse = F32(1) / totals[g]
        for d in range(dim):
            target[d] = rounded(source[d] * inverse, out)


@exact
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


@exact
def _attend_task(task, owners, firsts, qkv, kv, tables, lengths, scale, cap, reach, piece, sums, peaks, totals, out):
    """One task; a request of one piece is written at once."""
    # neighbouring tasks are different pieces: each thread gets its share of the long sequences
    head, place = task // len(owners), task % len(owners)
    request = owners[place]
    length = np.int64(lengths[request])
    reached = max(0, length - reach)
    begin = (reached // piece + place - firsts[request]) * piece
    begin, end = max(begin, reached), min(length, begin + piece)
    group = sums.shape[1]
    mine = sums[task]
    attend_piece(qkv, kv, tables[request], request, head, begin, end, scale, cap, mine, peaks[task, :group], totals[task])
    if firsts[request + 1] - firsts[request] == 1:
        _write(request, head, mine, totals[task], out)


@exact(parallel=True)
def attend_decodes(qkv, kv, tables, lengths, scale, cap, reach, piece, out):
    """`decode_attention` for kernels: `reach` is the window, `piece` its number of tokens, and a cap of 0 is none.

    Indices are cast to one type: functions would be compiled again for another.
    """
    kv_heads, dim = kv[0].shape[1], kv[0].shape[3]
    owners, firsts = _pieces(lengths, reach, piece)
    tasks, group = len(owners) * kv_heads, out.shape[1] // (kv_heads * dim)
    sums, peaks = np.empty((tasks, group, dim), np.float32), np.empty((tasks, group), np.float32)
    totals = np.empty((tasks, group + QUERIES), np.float32)  # the last ones are not used
    for task in numba.prange(tasks):
        _attend_task(
            np.int64(task), owners, firsts, qkv, kv, tables, lengths, scale, cap, reach, piece, sums, peaks, totals, out
        )
    for request in range(len(lengths)):
        if firsts[request + 1] - firsts[request] > 1:
            for head in range(kv_heads):
                first = head * len(owners) + firsts[request]
                _join_pieces(first, first + firsts[request + 1] - firsts[request], sums, peaks, totals)
                _write(request, head, sums[first], totals[first], out)


attend_decodes = keep_compiled(attend_decodes)


def attention_scalars(scale: float, window: int | None, soft_cap: float | None) -> tuple[np.float32, np.float32, int, int]:
    """Scale, soft cap, reach and piece, as kernels take them."""
    return F32(scale), F32(soft_cap or 0), EVERYTHING if window is None else window, online_softmax.PIECE


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
    attend_decodes(qkv, kv, tables, lengths, *attention_scalars(scale, window, soft_cap), out)
