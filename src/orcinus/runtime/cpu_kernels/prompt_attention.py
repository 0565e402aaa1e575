"""Attention of chunks of prompts in one call, at the speed of matrix products (FlashAttention-2: Dao, 2023).

A task is one key/value head and a tile of query rows: the query heads of the group, token by token. Its rows stand side by
side as the lanes of vectors, in panels of `LANES`: the softmax needs no sum across a vector, and keys and values are read as
they lie.

    for tile of KEYS tokens, up to the last row's own:
        K, V = the tile, from its blocks, in float32                [KEYS, head_dim]
        for panel of rows:
            S = K · Q, with a soft cap c: c · tanh(S / c)            [KEYS, LANES]
            m' = max(m, max S);  a = exp(m - m');  P = exp(S - m')
            acc, l, m = acc · a + Vᵀ · P, l · a + sum P, m'        [head_dim, LANES]
    out = acc / l

Tiles that no row of a panel sees are skipped. They begin at multiples of `KEYS` tokens of the sequence, and each row is a lane
of its own, so that the bits of a token's output depend neither on its chunk nor on what runs beside it.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.decode_attention import EVERYTHING, Floats, Words
from orcinus.runtime.cpu_kernels.elements import F32, FAST, KVArrays, load, rounded, tanh
from orcinus.runtime.cpu_kernels.tile_product import LANES, ROWS, SIDE, tile_product, transpose
from orcinus.runtime.cpu_kernels.tile_softmax import tile_softmax

KEYS = 96  # tokens of a tile: a multiple of ROWS; both tiles of a head of 128 take 96 KiB, a part of the L2 cache
PANELS = 8  # of one task at most: what reading a tile costs is divided by them
NOTHING = F32(-1e30)  # a score with weight 0; unlike -inf it makes no NaN
LEAST = F32(-1e25)  # the least maximum: the weight of NOTHING is 0 even where nothing else was seen yet


@numba.njit(fastmath=FAST, error_model="numpy")
def _read_tile(cache, scales, table, head, begin, end, tile):
    """Tokens [begin, end) of a head as the first rows of a tile, then zeros up to a multiple of ROWS."""
    block_size, dim = cache.shape[2], cache.shape[3]
    for token in range(begin, end):
        at = table[token // block_size], head, token % block_size
        source, target, scale = cache[at], tile[token - begin], F32(1) if scales is None else scales[at]
        for d in range(dim):
            target[d] = load(source[d]) * scale
    for row in range(end - begin, (end - begin + ROWS - 1) // ROWS * ROWS):
        tile[row] = F32(0)


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _cap_and_mask(scores, count, begin, positions, reach, masked, cap):
    """Soft-cap the scores of tokens from `begin`, and hide those that a row does not see."""
    for j in range(count):
        s = scores[j]
        if cap > 0:
            for lane in range(LANES):
                s[lane] = cap * tanh(s[lane] / cap)
        if masked:
            for lane in range(LANES):
                back = positions[lane] - (begin + j)
                s[lane] = s[lane] if 0 <= back < reach else NOTHING


@numba.njit(error_model="numpy")
def _read_queries(qkv, row, head, group, begin, end, scale, dim, some, panel):
    """Rows [begin, end) of a task as the lanes of a panel, scaled; `some` rows at a time."""
    for lane in range(0, LANES, SIDE):
        some[:] = F32(0)
        for at in range(begin + lane, min(begin + lane + SIDE, end)):
            first = (head * group + at % group) * dim
            source, target = qkv[row + at // group, first : first + dim], some[at - begin - lane]
            for d in range(dim):
                target[d] = load(source[d]) * scale
        for d in range(0, dim, SIDE):
            transpose(some, d, some.shape[1], panel, d * LANES + lane, LANES)


@numba.njit(error_model="numpy")
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


@numba.njit(error_model="numpy", inline="always")
def _attend_tile(
    qkv, kv, table, head, row, start, group, begin, end, scale, cap, reach, out,
    queries, scores, sums, totals, peaks, positions, key_tile, value_tile, some,
):  # fmt: skip
    """One task: rows [begin, end) of a request's chunk, whose first row is `row`, at position `start`."""
    keys, values, key_scales, value_scales = kv
    dim, wide = keys.shape[3], sums.shape[1]
    panels = (end - begin + LANES - 1) // LANES
    for p in range(panels):
        _read_queries(qkv, row, head, group, begin + p * LANES, end, scale, dim, some, queries[p])
    sums[:panels], totals[:panels], peaks[:panels] = F32(0), F32(0), LEAST
    for at in range(panels * LANES):
        positions[at // LANES, at % LANES] = start + min(begin + at, end - 1) // group
    for tile in range(max(0, positions[0, 0] + 1 - reach) // KEYS, positions[panels - 1, LANES - 1] // KEYS + 1):
        first = tile * KEYS
        last = min(first + KEYS, positions[panels - 1, LANES - 1] + 1)
        _read_tile(keys, key_scales, table, head, first, last, key_tile)
        _read_tile(values, value_scales, table, head, first, last, value_tile)
        for p in range(panels):
            low, high = positions[p, 0], positions[p, LANES - 1]
            if first > high or first + KEYS <= low + 1 - reach:
                continue
            count = min(KEYS, (high - first) // ROWS * ROWS + ROWS)
            scores[:count] = F32(0)
            for j in range(0, count, ROWS):
                tile_product(key_tile, j * wide, wide, 1, queries[p], dim, scores, j * LANES)
            masked = first + count - 1 > low or first <= high - reach
            if masked or cap > 0:
                _cap_and_mask(scores, count, first, positions[p], reach, masked, cap)
            tile_softmax(scores, count, peaks[p], totals[p], sums[p], dim)
            for d in range(0, dim, ROWS):
                tile_product(value_tile, d, 1, wide, scores, count, sums[p], d * LANES)
    for p in range(panels):
        first = begin + p * LANES
        _write_rows(sums[p], totals[p], row, head, group, first, end, dim, some, out)


@numba.njit(error_model="numpy")
def _attend_share(share, qkv, kv, tables, tasks, bounds, size, scale, cap, reach, out):
    """The tasks of one thread."""
    kv_heads, dim = kv[0].shape[1], kv[0].shape[3]
    group, panels, wide = out.shape[1] // (kv_heads * dim), size // LANES, (dim + 2 * SIDE - 1) // SIDE * SIDE
    queries, sums = np.empty((panels, wide, LANES), np.float32), np.empty((panels, wide, LANES), np.float32)
    totals, peaks = np.empty((panels, LANES), np.float32), np.empty((panels, LANES), np.float32)
    positions, scores = np.empty((panels, LANES), np.int64), np.empty((KEYS, LANES), np.float32)
    key_tile, value_tile = np.empty((KEYS, wide), np.float32), np.empty((KEYS, wide), np.float32)
    some = np.empty((SIDE, wide), np.float32)
    for at in range(bounds[share], bounds[share + 1]):
        task = tasks[at]
        _attend_tile(
            qkv, kv, tables[task[0]], task[1], task[2], task[3], group, task[4], task[5], scale, cap, reach, out,
            queries, scores, sums, totals, peaks, positions, key_tile, value_tile, some,
        )  # fmt: skip


@numba.njit(parallel=True, error_model="numpy")
def _attend_shares(qkv, kv, tables, tasks, bounds, size, scale, cap, reach, out):
    for share in numba.prange(len(bounds) - 1):
        _attend_share(np.int64(share), qkv, kv, tables, tasks, bounds, size, scale, cap, reach, out)


@numba.njit(error_model="numpy")
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


_attend_shares, _tasks = keep_compiled(_attend_shares), keep_compiled(_tasks)


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
    kv_heads, head_dim = kv[0].shape[1], kv[0].shape[3]
    group, threads = out.shape[1] // (kv_heads * head_dim), numba.get_num_threads()
    panels = len(qkv) * group * kv_heads // (2 * threads * LANES)  # two tasks a thread, if possible
    size = min(max(panels, 1), PANELS) * LANES
    reach = EVERYTHING if window is None else window
    tasks, bounds = _tasks(firsts, ends, group, kv_heads, size, reach, threads)
    _attend_shares(qkv, kv, tables, tasks, bounds, size, F32(scale), F32(soft_cap or 0), reach, out)
