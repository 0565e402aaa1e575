"""Rows of activations for products with weights in groups: 8-bit levels, with a scale for each block, as words.

A word holds four levels. Those of rows that are multiplied together stand beside each other, `[blocks, words, rows]`, so that
a step reads one stream (ADR 73).
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numpy as np

from orcinus.runtime.compiled import exact
from orcinus.runtime.cpu_kernels.elements import F32, load
from orcinus.runtime.cpu_kernels.quantized_rows import LARGEST, LEVELS, SMALLEST, WITHOUT_SIGN

BLOCK = 32  # inputs
WORDS = BLOCK // 4  # of a row's block
ROUND = F32(3 * 2**22)  # added to a small number, it leaves the nearest integer in the lowest bits


@exact(forceinline=True)
def _quantize_block(x, times, levels):
    """A row's block as 8-bit levels; their sum so many times, and their scale.

    Blocks are slices: an index that might be negative keeps LLVM from using vectors.
    """
    most = np.int32(0)  # the bits of the largest absolute value: NaN counts as the largest
    for i in range(len(x)):
        most = np.int32(max(most, F32(load(x[i])).view(np.int32) & WITHOUT_SIGN))
    usable = SMALLEST <= most <= LARGEST
    largest = np.int32(most).view(np.float32)
    scale = largest / LEVELS if usable else F32(0) if most < SMALLEST else np.float32(np.nan)
    inverse = LEVELS / largest if usable else F32(0)
    total = np.int32(0)
    for i in range(len(x)):
        level = np.int8(F32((load(x[i]) if usable else F32(0)) * inverse + ROUND).view(np.int32) & np.int32(255))
        levels[i] = level
        total += np.int32(level)
    return np.int32(times) * total, scale


@exact(forceinline=True)
def _rows_together(row, rows):
    """The first of the rows that are multiplied together with this one, and how many they are: 8, 4, 2 or 1."""
    first, count = row // 8 * 8, np.int64(8)
    while first + count > rows:
        count //= 2
        if row >= first + count:
            first += count
    return first, count


@exact(forceinline=True)
def _store_words(levels, row, words):
    """A row's levels as words, beside those of the rows that are multiplied together with it."""
    first, together = _rows_together(row, len(words))
    flat, four, begin = words.reshape(words.size), levels.view(np.int32), first * words.shape[1] + row - first
    for number in range(len(four)):
        flat[begin + together * number] = four[number]


@exact
def quantize_row(x, row, times, words, totals, scales, sums):
    """A row's blocks; and of each group, if there are sums of them, the sum of the rounded numbers so many times."""
    size, blocks = x.shape[1], totals.shape[1]
    whole, mine, levels = size // BLOCK, x[row], np.empty(blocks * BLOCK, np.int8)
    for block in range(whole):
        begin = block * BLOCK
        some = mine[begin : begin + BLOCK], times, levels[begin : begin + BLOCK]
        totals[row, block], scales[row, block] = _quantize_block(*some)
    for block in range(whole, blocks):
        begin = min(block * BLOCK, size)
        levels[block * BLOCK :] = 0
        totals[row, block], scales[row, block] = _quantize_block(mine[begin:size], times, levels[block * BLOCK :])
    _store_words(levels, row, words)
    groups = sums.shape[1]
    for group in range(groups):
        each, total = blocks // groups, F32(0)
        for block in range(group * each, (group + 1) * each):
            total += F32(totals[row, block]) * scales[row, block]
        sums[row, group] = total


@exact
def empty_rows(rows, blocks, groups):
    """Room for rounded rows: words of levels, the blocks' totals and scales, and the groups' sums."""
    words, totals = np.empty((rows, blocks * WORDS), np.int32), np.empty((rows, blocks), np.int32)
    return words, totals, np.empty((rows, blocks), np.float32), np.empty((rows, groups), np.float32)
