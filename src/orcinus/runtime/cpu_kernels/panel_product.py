"""Products of rows with a weight that lies in panels (Goto and van de Geijn, 2008; BLIS: Van Zee and van de Geijn, 2015).

A panel holds `PANEL` outputs of a weight, input by input, so that a product reads it from front to back:

    panels [N / PANEL, K, PANEL]          bfloat16: [N / PANEL, K / 2, PANEL, 2], pairs of inputs side by side

    for panel:                            threads divide the panels
      for up to `most_rows` rows:         their sums stay in registers
        for k:  sums[row, :] += x[row, k] · panel[k, :]
        out[row, panel's outputs] = sums + bias

A row's sums run over k in one order, whatever rows are beside it and however many threads there are, so its bits depend on
nothing else. LLVM's own vectoriser would not keep the sums in registers, so the inner loop is written in its instructions.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numpy.typing import NDArray

from orcinus.runtime.compiled import exact, keep_compiled
from orcinus.runtime.cpu_kernels.vectors import (
    DOT,
    FLOAT,
    HALF,
    INDEX,
    LANES,
    VECTOR,
    WORD,
    WORDS,
    ZEROS,
    add_products,
    everywhere,
    fetch,
    halves,
    not_unrolled,
    rounded_to_bfloat16,
)  # fmt: skip

VECTORS = 2  # of a panel's outputs: two products for each number of x that is read
PANEL = VECTORS * LANES
AHEAD = 64  # inputs, whose weights are fetched early: with several rows the processor itself does not look that far


def most_rows(bits: int) -> int:
    """Rows of a step: with their sums, the registers (32 with AVX-512, otherwise 16) hold the weights of a step and one x."""
    return 12 if LANES == 16 else 6 if bits == 32 else 4


MOST_OF_WORDS, MOST_OF_HALVES = most_rows(32), most_rows(16)


def _step(builder: ir.IRBuilder, x: ir.Value, weights: list[ir.Value], sums: list[ir.Value]) -> list[ir.Value]:
    """The sums of a row after one number of x (bfloat16: a pair of them)."""
    if x.type == FLOAT or DOT:
        return [add_products(builder, everywhere(builder, x), w, s) for w, s in zip(weights, sums, strict=True)]
    for number, half in enumerate(halves(builder, x)):
        sums = _step(builder, half, [halves(builder, w)[number] for w in weights], sums)
    return sums


def _loop(builder: ir.IRBuilder, rows: int, x: list[ir.Value], panel: ir.Value, size: ir.Value) -> list[list[ir.Value]]:
    """The sums of `rows` rows over all inputs. It is not unrolled: LLVM would read ahead, and run out of registers."""
    before, body, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sums")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(INDEX)
    k.add_incoming(INDEX(0), before)
    sums = [[builder.phi(VECTOR) for _ in range(VECTORS)] for _ in range(rows)]
    places = [builder.add(builder.mul(k, INDEX(VECTORS)), INDEX(v)) for v in range(VECTORS)]
    weights = [builder.load(builder.gep(panel, [place]), align=4 * LANES) for place in places]
    for place in places:
        fetch(builder, builder.gep(panel, [builder.add(place, INDEX(AHEAD * VECTORS))]))
    following = [
        _step(builder, builder.load(builder.gep(row, [k]), align=2), weights, mine) for row, mine in zip(x, sums, strict=True)
    ]
    for mine, more in zip(sums, following, strict=True):
        for each, new in zip(mine, more, strict=True):
            each.add_incoming(ZEROS, before)
            each.add_incoming(new, body)
    next_k = builder.add(k, INDEX(1))
    k.add_incoming(next_k, body)
    not_unrolled(builder.cbranch(builder.icmp_signed("<", next_k, size), body, after), builder.module)
    builder.position_at_end(after)
    return following


@intrinsic
def _rows_times_panel(_, x, first, count, panels, panel, bias, out, row, column):
    """`out[row : row + count, column : column + PANEL]` = rows `first`, … of x, times a panel, plus its part of the bias."""
    kind = WORDS if x.dtype == types.uint16 else VECTOR  # weights of one vector

    def generate(context, builder, signature, arguments):
        def array(place):
            return context.make_array(signature.args[place])(context, builder, arguments[place])

        def pointer(data, offset, to):
            """`offset` bytes behind the first element."""
            start = builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [offset])
            return builder.bitcast(start, to.as_pointer())

        rows, weights, target, added = array(0), array(3), array(6), array(5)
        _, at, count, _, number, _, _, out_row, out_column = arguments
        size = builder.extract_value(weights.shape, 1)
        stride, out_stride = (builder.extract_value(each.strides, 0) for each in (rows, target))
        begin = pointer(weights.data, builder.mul(number, builder.extract_value(weights.strides, 0)), kind)
        bias_at = pointer(added.data, builder.mul(number, INDEX(4 * PANEL)), VECTOR)
        biases = [builder.load(builder.gep(bias_at, [INDEX(v)]), align=4) for v in range(VECTORS)]
        number_of_x = WORD if kind.element == WORD else FLOAT
        stored = ir.VectorType(HALF, LANES) if kind.element == WORD else VECTOR
        done = builder.append_basic_block("done")
        switch = builder.switch(count, done)
        for n in range(1, most_rows(x.dtype.bitwidth) + 1):
            block = builder.append_basic_block(f"rows{n}")
            switch.add_case(INDEX(n), block)
            builder.position_at_end(block)
            places = [builder.mul(builder.add(at, INDEX(r)), stride) for r in range(n)]
            sums = _loop(builder, n, [pointer(rows.data, place, number_of_x) for place in places], begin, size)
            for r, mine in enumerate(sums):
                offset = builder.mul(builder.add(out_row, INDEX(r)), out_stride)
                offset = builder.add(offset, builder.mul(out_column, INDEX(x.dtype.bitwidth // 8)))
                to = pointer(target.data, offset, stored)
                for v, each in enumerate(mine):
                    total = builder.fadd(each, biases[v])
                    total = rounded_to_bfloat16(builder, total) if kind.element == WORD else total
                    builder.store(total, builder.gep(to, [INDEX(v)]), align=2)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    index = types.intp
    return types.none(x, index, index, panels, index, bias, out, index, index), generate


@exact
def _panel(number, x, panels, bias, out):
    rows, column, most = len(x), number * PANEL, MOST_OF_WORDS if x.itemsize == 4 else MOST_OF_HALVES
    whole = column + PANEL <= out.shape[1]
    target = out if whole else np.empty((rows, PANEL), out.dtype)
    steps = (rows + most - 1) // most
    for step in range(steps):
        first, last = step * rows // steps, (step + 1) * rows // steps
        _rows_times_panel(x, first, last - first, panels, number, bias, target, first, column if whole else 0)
    if not whole:
        for row in range(rows):
            for i in range(out.shape[1] - column):
                out[row, column + i] = target[row, i]


@exact(parallel=True)
def multiply_panels(x, panels, bias, out):
    """`out` `[rows, N]` = x `[rows, K]` · weightᵀ + bias.

    float32, or bfloat16 as uint16 with an even K. The panels are `[N / PANEL, K, PANEL]`, or words of two bfloat16
    `[N / PANEL, K / 2, PANEL]`, aligned to a vector; the bias has a number for each output of a panel, `[panels · PANEL]`.
    """
    for number in numba.prange(len(panels)):
        _panel(np.int64(number), x, panels, bias, out)


multiply_panels = keep_compiled(multiply_panels)


@intrinsic
def _panels_at(_, like, address):
    """An array like `like`, of the same shape, whose first element is at `address`."""

    def generate(context, builder, signature, arguments):
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        found.data = builder.inttoptr(arguments[1], found.data.type)
        return impl_ret_borrowed(context, builder, signature.return_type, found._getvalue())

    return like(like, types.int64), generate


@exact(parallel=True)
def _multiply_segments(x, like, addresses, starts, threads, bias, out):
    panels = len(like)
    for thread in numba.prange(threads):
        for segment in range(len(addresses)):
            first, last = starts[segment], starts[segment + 1]
            weight = _panels_at(like, addresses[segment])
            for number in range(thread * panels // threads, (thread + 1) * panels // threads):
                _panel(np.int64(number), x[first:last], weight, bias, out[first:last])


_multiply_segments = keep_compiled(_multiply_segments)


def segmented_panel_product(
    x: NDArray[Any], weights: list[NDArray[Any]], counts: list[int], bias: NDArray[np.float32], out: NDArray[Any]
) -> None:
    """The same for segments of rows, each with a weight of its own: the first `counts[0]` rows times `weights[0]`, and so on.

    The weights are panels of one shape. Threads divide the panels of each weight, so that all have equally many rows, and meet
    once for all segments.
    """
    addresses = np.array([weight.ctypes.data for weight in weights])
    starts = np.concatenate(([0], np.cumsum(counts)))
    _multiply_segments(x, weights[0], addresses, starts, numba.get_num_threads(), bias, out)
