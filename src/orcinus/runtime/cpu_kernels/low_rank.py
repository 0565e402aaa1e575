"""Low-rank updates of a batch's rows: out[row] += B (A x[row]), with the A's and B's of each row's adapter (LoRA).

Two neighbouring rows of one adapter are a task, and threads divide the tasks. A x is as many dot products as the rank, and
B (A x) a sum of as many rows of Bᵀ: in `row_products`.

    numbers     of all adapters, one after the other: for each adapted part of the layer its A `[rank, inputs]`, then B in
                panels of `WIDTH` outputs `[outputs / WIDTH, rank, WIDTH]`
    parts       of all adapters: rank, first output, outputs, where A begins, where B begins
    firsts      of each adapter: its first part; then the number of parts
    tasks       adapter, first row, rows (1 or 2)

Sums are in float32, in an order that depends on nothing beside the row, and are rounded once, when they are added.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, load, rounded
from orcinus.runtime.cpu_kernels.row_products import TOKENS, add_weighted, dots
from orcinus.runtime.cpu_kernels.token_products import QUERIES, VECTORS
from orcinus.runtime.cpu_kernels.vectors import LANES

ROWS = QUERIES  # of a task
WIDTH = VECTORS * LANES  # outputs of a panel


@exact
def _times_a(rows, count, numbers, begin, rank, low):
    """`low[row, :rank]` = A · row."""
    inputs, most = rows.shape[1], low.shape[1]
    whole, at = inputs // LANES * LANES, np.int64(0)
    while at < rank:
        lines = np.int64(TOKENS if at + TOKENS <= rank else 1)
        dots(rows, np.int64(0), count, numbers, begin + at * inputs, lines, inputs, whole, low, at, most)
        at += lines
    for row in range(count):
        for line in range(rank):
            for i in range(whole, inputs):
                low[row, line] += rows[row, i] * load(numbers[begin + line * inputs + i])


@exact
def _add_times_b(low, count, numbers, begin, rank, sums, out, first_row, first, outputs):
    """out[first_row + row, first : first + outputs] += B · low[row]."""
    most = low.shape[1]
    for panel in range((outputs + WIDTH - 1) // WIDTH):
        for row in range(count):
            for i in range(WIDTH):
                sums[row, i] = F32(0)
        at = begin + panel * rank * WIDTH
        add_weighted(low, np.int64(0), most, count, numbers, at, WIDTH, rank, np.int64(VECTORS), sums, np.int64(0))
        column = first + panel * WIDTH
        for row in range(count):
            for i in range(min(WIDTH, first + outputs - column)):
                before = load(out[first_row + row, column + i])
                out[first_row + row, column + i] = rounded(before + sums[row, i], out)


times_a, add_times_b = external(_times_a), external(_add_times_b)


@exact(parallel=True)
def _add_low_rank(x, out, tasks, firsts, parts, numbers, most_rank):
    inputs = x.shape[1]
    for number in numba.prange(len(tasks)):
        adapter, row, count = tasks[number, 0], tasks[number, 1], tasks[number, 2]
        rows, low = np.empty((ROWS, inputs), np.float32), np.empty((ROWS, most_rank), np.float32)
        sums = np.empty((ROWS, WIDTH), np.float32)
        for r in range(count):
            for i in range(inputs):
                rows[r, i] = load(x[row + r, i])
        for at in range(firsts[adapter], firsts[adapter + 1]):
            rank, first, outputs, a, b = parts[at, 0], parts[at, 1], parts[at, 2], parts[at, 3], parts[at, 4]
            times_a(rows, count, numbers, a, rank, low)
            add_times_b(low, count, numbers, b, rank, sums, out, row, first, outputs)


_add_low_rank = keep_compiled(_add_low_rank)


def add_low_rank(
    x: NDArray[Any],
    out: NDArray[Any],
    tasks: NDArray[np.int64],
    firsts: NDArray[np.int64],
    parts: NDArray[np.int64],
    numbers: NDArray[Any],
    most_rank: int,
) -> None:
    """Add B (A x) to rows of `out` `[rows, outputs]`, for `x` `[rows, inputs]`; the rest is described above.

    float32, or bfloat16 as uint16; `most_rank` is the largest rank of a part.
    """
    _add_low_rank(x, out, tasks, firsts, parts, numbers, most_rank)
