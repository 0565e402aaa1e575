"""Attention of chunks of prompts in one call, at the speed of matrix products (FlashAttention-2: Dao, 2023).

A task is one key/value head and a tile of query rows: the query heads of the group, token by token. Its rows stand side by
side as the lanes of vectors, in panels of `LANES`: the softmax needs no sum across a vector, and keys and values are read as
they lie.

    for tile of KEYS tokens, up to the last row's own:
        K, V = the tile, from its blocks, as factors                [KEYS, head_dim]
        for panel of rows:
            S = scale · K · Q, with a soft cap c: c · tanh(S / c)    [KEYS, LANES]
            m' = max(m, max S);  a = exp(m - m');  P = exp(S - m')
            acc, l, m = acc · a + Vᵀ · P, l · a + sum P, m'        [head_dim, LANES]
    out = acc / l

After each piece of a sequence, acc, l and m join those of earlier pieces. Tiles that no row of a panel sees are skipped. Each
row is a lane of its own, and the order of its sums is that of `online_softmax`: the bits of a token's output depend neither on
its chunk nor on what runs beside it, and are those that it would have as a decode.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels.decode_attention import Floats, Words, attention_scalars
from orcinus.runtime.cpu_kernels.elements import F32, KVArrays, rounded
from orcinus.runtime.cpu_kernels.factors import copy_factors, copy_values, empty_factors, num_factors, tile_weights
from orcinus.runtime.cpu_kernels.online_softmax import (
    KEYS,
    LEAST,
    NOTHING,
    cap_scores,
    join_peaks,
    multiply_add,
    tile_softmax,
)
from orcinus.runtime.cpu_kernels.tile_product import LANES, ROWS, SIDE, tile_product, transpose

PANELS = 8  # of one task at most: what reading a tile costs is divided by them
assert KEYS % ROWS == 0, "a tile is whole products"


@exact
def _read_keys(cache, scales, table, head, begin, end, tile, tile_scales):
    """Keys of tokens [begin, end) of a head as the first rows of a tile, and their scales; zeros up to a multiple of ROWS."""
    block_size = cache.shape[2]
    for token in range(begin, end):
        at = table[token // block_size], head, token % block_size
        copy_factors(cache[at], tile[token - begin])
        if scales is not None:
            tile_scales[token - begin] = scales[at]
    for row in range(end - begin, (end - begin + ROWS - 1) // ROWS * ROWS):
        tile[row], tile_scales[row] = 0, F32(0)


@exact
def _read_values(cache, scales, table, head, begin, end, tile, tile_scales):
    """The same for values; `begin` is even, and a lone last token is a pair with itself, which its weight hides."""
    block_size = cache.shape[2]
    for token in range(begin, end, 2):
        other = min(token + 1, end - 1)
        at = table[token // block_size], head, token % block_size
        beside = table[other // block_size], head, other % block_size
        copy_values(cache[at], cache[beside], tile, token - begin)
        if scales is not None:
            tile_scales[token - begin], tile_scales[token - begin + 1] = scales[at], scales[beside]
    even = (end - begin + 1) // 2 * 2
    whole = (end - begin + ROWS - 1) // ROWS * ROWS
    for row in range(num_factors(even, tile), num_factors(whole, tile)):
        tile[row] = 0
    tile_scales[even:whole] = F32(0)


@exact(forceinline=True)
def _multiply_rows(x, count, factors):
    """The first rows of a matrix, each times a factor."""
    for j in range(count):
        row, factor = x[j], factors[j]
        for lane in range(LANES):
            row[lane] *= factor


@exact(forceinline=True)
def _mask(scores, count, begin, positions, reach):
    """Hide scores of tokens from `begin` that a row does not see."""
    for j in range(count):
        s = scores[j]
        for lane in range(LANES):
            back = positions[lane] - (begin + j)
            s[lane] = s[lane] if 0 <= back < reach else NOTHING


@exact
def _begin_piece(now, panels, dim, sums, totals, peaks):
    """No sums yet."""
    for p in range(panels):
        for lane in range(LANES):
            totals[now, p, lane], peaks[now, p, lane] = F32(0), LEAST
        for d in range(dim):
            row = sums[now, p, d]
            for lane in range(LANES):
                row[lane] = F32(0)


@exact
def _join_piece(panels, dim, sums, totals, peaks):
    """The piece at place 1 joins earlier ones at place 0."""
    mine, earlier = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for p in range(panels):
        for lane in range(LANES):
            peaks[0, p, lane], totals[0, p, lane], mine[lane], earlier[lane] = join_peaks(
                peaks[1, p, lane], totals[1, p, lane], peaks[0, p, lane], totals[0, p, lane]
            )
        for d in range(dim):
            source, target = sums[1, p, d], sums[0, p, d]
            for lane in range(LANES):
                target[lane] = multiply_add(source[lane], mine[lane], target[lane] * earlier[lane])


@exact
def _read_queries(qkv, row, head, group, begin, end, dim, some, panel):
    """Rows [begin, end) of a task as the lanes of a panel; `some` rows at a time."""
    for lane in range(0, LANES, SIDE):
        some[:] = 0
        for at in range(begin + lane, min(begin + lane + SIDE, end)):
            first = (head * group + at % group) * dim
            copy_factors(qkv[row + at // group, first : first + dim], some[at - begin - lane])
        for step in range(0, num_factors(dim, qkv), SIDE):
            transpose(some, step, some.shape[1], panel, step * LANES + lane, LANES)


@exact
def _write_rows(panel, totals, row, head, group, begin, end, dim, some, out):
    """Rows [begin, end) of a task, which are the lanes of a panel."""
    for lane in range(0, min(LANES, end - begin), SIDE):
        for d in range(0, dim, SIDE):
            transpose(panel, d * LANES + lane, LANES, some, d, some.shape[1])
        for at in range(begin + lane, min(begin + lane + SIDE, end)):
            first = (head * group + at % group) * dim
            source, target = some[at - begin - lane], out[row + at // group, first : first + dim]
            inverse = F32(1) / totals[at - begin]
            for d in range(dim):
                target[d] = rounded(source[d] * inverse, out)


@exact(forceinline=True)
def _score(queries, steps, tile, scales, tile_scales, first, count, positions, reach, scale, cap, scores):
    """The scores of `count` tokens from `first` on, for a panel of queries of so many factors."""
    wide, low, high = tile.shape[1], positions[0], positions[LANES - 1]
    for j in range(0, count, ROWS):
        tile_product(tile, j * wide, wide, 1, queries, steps, scale, scores, j * LANES)
    if scales is not None:
        _multiply_rows(scores, count, tile_scales)
    if cap > 0:
        cap_scores(scores, 0, count * LANES, cap)
    if first + count - 1 > low or first <= high - reach:
        _mask(scores, count, first, positions, reach)


@exact(inline="always")
def _attend_tile(
    qkv, kv, table, head, row, start, group, begin, end, scale, cap, reach, piece, out,
    queries, scores, sums, totals, peaks, positions, key_tile, value_tile, its_key_scales, its_value_scales, some, some_queries,
):  # fmt: skip
    """One task: rows [begin, end) of a request's chunk, whose first row is `row`, at position `start`."""
    keys, values, key_scales, value_scales = kv
    dim, steps = keys.shape[3], num_factors(keys.shape[3], qkv)
    panels = (end - begin + LANES - 1) // LANES
    for p in range(panels):
        _read_queries(qkv, row, head, group, begin + p * LANES, end, dim, some_queries, queries[p])
    now = 0  # the place of sums: that of the first piece, or 1 for later ones
    _begin_piece(now, panels, dim, sums, totals, peaks)
    for at in range(panels * LANES):
        positions[at // LANES, at % LANES] = start + min(begin + at, end - 1) // group
    begins = max(0, positions[0, 0] + 1 - reach) // KEYS * KEYS
    for first in range(begins, positions[panels - 1, LANES - 1] + 1, KEYS):
        if first > begins and first % piece == 0:
            if now:
                _join_piece(panels, dim, sums, totals, peaks)
            now = 1
            _begin_piece(now, panels, dim, sums, totals, peaks)
        last = min(first + KEYS, positions[panels - 1, LANES - 1] + 1)
        _read_keys(keys, key_scales, table, head, first, last, key_tile, its_key_scales)
        _read_values(values, value_scales, table, head, first, last, value_tile, its_value_scales)
        for p in range(panels):
            low, high = positions[p, 0], positions[p, LANES - 1]
            if first > high or first + KEYS <= low + 1 - reach:
                continue
            count = min(KEYS, (high - first) // ROWS * ROWS + ROWS)
            _score(
                queries[p], steps, key_tile, key_scales, its_key_scales, first, count, positions[p], reach, scale, cap, scores
            )
            tile_softmax(scores, count, peaks[now, p], totals[now, p], sums[now, p], dim)
            if value_scales is not None:
                _multiply_rows(scores, count, its_value_scales)
            weights, tokens = tile_weights(scores, count, qkv), num_factors(count, qkv)
            for d in range(0, dim, ROWS):
                tile_product(value_tile, d, 1, value_tile.shape[1], weights, tokens, None, sums[now, p], d * LANES)
    if now:
        _join_piece(panels, dim, sums, totals, peaks)
    for p in range(panels):
        first = begin + p * LANES
        _write_rows(sums[0, p], totals[0, p], row, head, group, first, end, dim, some, out)


@exact
def _attend_share(share, qkv, kv, tables, tasks, bounds, size, scale, cap, reach, piece, out):
    """The tasks of one thread."""
    kv_heads, dim = kv[0].shape[1], kv[0].shape[3]
    group, panels, wide = out.shape[1] // (kv_heads * dim), size // LANES, (dim + 2 * SIDE - 1) // SIDE * SIDE
    steps = (num_factors(dim, qkv) + SIDE - 1) // SIDE * SIDE
    queries, positions = empty_factors((panels, steps, LANES), qkv), np.empty((panels, LANES), np.int64)
    sums = np.empty((2, panels, wide, LANES), np.float32)
    totals, peaks = np.empty((2, panels, LANES), np.float32), np.empty((2, panels, LANES), np.float32)
    key_tile, value_tile = empty_factors((KEYS, steps), qkv), empty_factors((num_factors(KEYS, qkv), wide), qkv)
    its_key_scales, its_value_scales = np.empty(KEYS, np.float32), np.empty(KEYS, np.float32)
    scores, some = np.empty((KEYS, LANES), np.float32), np.empty((SIDE, wide), np.float32)
    some_queries = empty_factors((SIDE, steps), qkv)
    for at in range(bounds[share], bounds[share + 1]):
        task = tasks[at]
        _attend_tile(
            qkv, kv, tables[task[0]], task[1], task[2], task[3], group, task[4], task[5], scale, cap, reach, piece, out,
            queries, scores, sums, totals, peaks, positions, key_tile, value_tile, its_key_scales, its_value_scales, some,
            some_queries,
        )  # fmt: skip


attend_share = external(_attend_share)


@exact(parallel=True)
def _attend_shares(qkv, kv, tables, tasks, bounds, size, scale, cap, reach, piece, out):
    for share in numba.prange(len(bounds) - 1):
        attend_share(np.int64(share), qkv, kv, tables, tasks, bounds, size, scale, cap, reach, piece, out)


@exact
def _tasks(firsts, ends, group, kv_heads, size, reach, shares):
    """All tasks, and where each thread's share of them begins: shares see about equally many keys.

    A task is its request, head, the request's first row and that row's position, and its own rows among the heads of the group.
    """
    count, total = 0, 0
    for r in range(len(ends)):
        count += ((firsts[r + 1] - firsts[r]) * group + size - 1) // size * kv_heads
    tasks, costs, at = np.empty((count, 6), np.int64), np.empty(count, np.int64), 0
    for r in range(len(ends)):
        row, rows = np.int64(firsts[r]), np.int64(firsts[r + 1] - firsts[r])
        start = ends[r] - rows
        for head in range(kv_heads):
            for begin in range(0, rows * group, size):
                end = min(begin + size, rows * group)
                task = tasks[at]
                task[0], task[1], task[2], task[3], task[4], task[5] = r, head, row, start, begin, end
                costs[at] = (end - begin) * min(start + (end - 1) // group + 1, reach)
                total += costs[at]
                at += 1
    bounds, seen, share = np.empty(shares + 1, np.int64), 0, 0
    for at in range(count):
        while share < shares and (seen + costs[at] // 2) * shares >= share * total:
            bounds[share] = at
            share += 1
        seen += costs[at]
    bounds[share:] = count
    return tasks, bounds


attend_shares = external(_attend_shares)


@exact
def attend_prompts(qkv, kv, firsts, ends, tables, threads, scale, cap, reach, piece, out):
    """`prompt_attention` for kernels, on so many threads."""
    kv_heads, dim = kv[0].shape[1], kv[0].shape[3]
    group = out.shape[1] // (kv_heads * dim)
    panels = len(qkv) * group * kv_heads // (2 * threads * LANES)  # two tasks a thread, if possible
    size = min(max(panels, 1), PANELS) * LANES
    tasks, bounds = _tasks(firsts, ends, group, kv_heads, size, reach, threads)
    attend_shares(qkv, kv, tables, tasks, bounds, size, scale, cap, reach, piece, out)


attend_prompts = keep_compiled(attend_prompts)


def prompt_attention(
    qkv: Floats, kv: KVArrays, firsts: Words, ends: Words, tables: Words, scale: float, window: int | None,
    out: Floats, soft_cap: float | None = None,
) -> None:  # fmt: skip
    """Attention of chunks over their sequences, themselves included.

    Arguments are qkv `[T, (heads + 2 · kv_heads) · head_dim]`, after `prepare_heads`; the `arrays` of a `LayerKV`; the first
    row of each chunk and the end of the last chunk `[R + 1]`; each sequence's length after its chunk `[R]` and its block table
    `[R, blocks]`; the scale; how far back a token sees; the output `[T, heads · head_dim]`; and the scores' soft cap. Numbers
    are float32, or bfloat16 as uint16.
    """
    scalars = attention_scalars(scale, window, soft_cap)
    attend_prompts(qkv, kv, firsts, ends, tables, numba.get_num_threads(), *scalars, out)
