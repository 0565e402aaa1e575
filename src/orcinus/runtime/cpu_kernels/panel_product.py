"""Products of rows with a weight that lies in panels (Goto and van de Geijn, 2008; BLIS: Van Zee and van de Geijn, 2015).

A panel holds `PANEL` outputs of a weight, input by input, so that a product reads it from front to back:

    panels [N / PANEL, K, PANEL]          bfloat16: [N / PANEL, K / 2, PANEL, 2], pairs of inputs side by side

    for panel:                            threads share the panels out
      for up to `most_rows` rows:         their sums stay in registers
        for k:  sums[row, :] += x[row, k] · panel[k, :]
        out[row, panel's outputs] = sums + bias

A row's sums run over k in one order, whatever rows are beside it and however many threads there are, so its bits depend on
nothing else. LLVM's own vectoriser would not keep the sums in registers, so the inner loop is written in its instructions.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numpy.typing import NDArray

from orcinus.runtime.compiled import keep_compiled

FLOAT, HALF, WORD, LONG = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
VECTORS = 2  # of a panel's outputs: two products for each number of x that is read


def has(feature: str) -> bool:
    """Whether code is compiled for a processor with this feature, in LLVM's name."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")


LANES = 16 if has("avx512f") else 8  # float32 numbers in a vector
PANEL = VECTORS * LANES
DOT = has("avx512bf16")  # products of pairs of bfloat16, added up in float32


def most_rows(bits: int) -> int:
    """Rows of a step: with their sums, the registers (32 with AVX-512, otherwise 16) hold the weights of a step and one x."""
    return 12 if LANES == 16 else 6 if bits == 32 else 4


class _BFloat(ir.Type):  # type: ignore[misc]  # llvmlite has no name for it
    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def _vector(kind: ir.Type, count: int = LANES) -> ir.Type:
    return ir.VectorType(kind, count)


def _everywhere(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector of one number."""
    nothing, first = ir.Constant(_vector(value.type), ir.Undefined), ir.Constant(_vector(WORD), [0] * LANES)
    return builder.shuffle_vector(builder.insert_element(nothing, value, WORD(0)), nothing, first)


def _halves(builder: ir.IRBuilder, pairs: ir.Value) -> list[ir.Value]:
    """The first and the second bfloat16 of each word, as float32."""
    of = partial(ir.Constant, pairs.type)
    shift, upper = (of([n] * LANES) if isinstance(pairs.type, ir.VectorType) else of(n) for n in (16, -(1 << 16)))
    kind = _vector(FLOAT) if isinstance(pairs.type, ir.VectorType) else FLOAT
    return [builder.bitcast(each, kind) for each in (builder.shl(pairs, shift), builder.and_(pairs, upper))]


def _step(builder: ir.IRBuilder, x: ir.Value, weights: list[ir.Value], sums: list[ir.Value]) -> list[ir.Value]:
    """The sums of a row after one number of x (bfloat16: a pair of them)."""
    vector, call = _vector(FLOAT), partial(cgutils.get_or_insert_function, builder.module)
    if x.type == FLOAT:
        fma = call(ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32")
        return [builder.call(fma, [_everywhere(builder, x), w, s]) for w, s in zip(weights, sums, strict=True)]
    if DOT:
        pairs = _vector(_BFloat(), 2 * LANES)
        dot = call(ir.FunctionType(vector, [vector, pairs, pairs]), f"llvm.x86.avx512bf16.dpbf16ps.{32 * LANES}")
        spread = builder.bitcast(_everywhere(builder, x), pairs)
        return [builder.call(dot, [s, spread, builder.bitcast(w, pairs)]) for w, s in zip(weights, sums, strict=True)]
    for number, half in enumerate(_halves(builder, x)):
        sums = _step(builder, half, [_halves(builder, w)[number] for w in weights], sums)
    return sums


def _rounded(builder: ir.IRBuilder, sums: ir.Value) -> ir.Value:
    """float32 as bfloat16, to nearest, ties to even."""
    kind = _vector(WORD)
    of = partial(ir.Constant, kind)
    bits = builder.bitcast(sums, kind)
    odd = builder.and_(builder.lshr(bits, of([16] * LANES)), of([1] * LANES))
    up = builder.add(bits, builder.add(odd, of([0x7FFF] * LANES)))
    return builder.trunc(builder.lshr(up, of([16] * LANES)), _vector(HALF))


def _loop(builder: ir.IRBuilder, rows: int, x: list[ir.Value], panel: ir.Value, size: ir.Value) -> list[list[ir.Value]]:
    """The sums of `rows` rows over all inputs. It is not unrolled: LLVM would read ahead, and run out of registers."""
    before, body, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sums")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(LONG)
    k.add_incoming(LONG(0), before)
    sums = [[builder.phi(_vector(FLOAT)) for _ in range(VECTORS)] for _ in range(rows)]
    places = [builder.add(builder.mul(k, LONG(VECTORS)), LONG(v)) for v in range(VECTORS)]
    weights = [builder.load(builder.gep(panel, [place]), align=4 * LANES) for place in places]
    following = [
        _step(builder, builder.load(builder.gep(row, [k]), align=2), weights, mine) for row, mine in zip(x, sums, strict=True)
    ]
    for mine, more in zip(sums, following, strict=True):
        for each, new in zip(mine, more, strict=True):
            each.add_incoming(ir.Constant(_vector(FLOAT), [0.0] * LANES), before)
            each.add_incoming(new, body)
    next_k = builder.add(k, LONG(1))
    k.add_incoming(next_k, body)
    end = builder.cbranch(builder.icmp_signed("<", next_k, size), body, after)
    plain = builder.module.add_metadata([ir.MetaDataString(builder.module, "llvm.loop.unroll.disable")])
    name = ir.values.MDValue(builder.module, [plain], str(len(builder.module.metadata)))
    name.operands = (name, plain)  # a loop's name is a list that begins with itself
    end.set_metadata("llvm.loop", name)
    builder.position_at_end(after)
    return following


@intrinsic
def _rows_times_panel(_, x, first, count, panels, panel, bias, out, row, column):
    """`out[row : row + count, column : column + PANEL]` = rows `first`, … of x, times a panel, plus its part of the bias."""
    kind = ir.VectorType(WORD, LANES) if x.dtype == types.uint16 else _vector(FLOAT)  # weights of one vector

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
        bias_at = pointer(added.data, builder.mul(number, LONG(4 * PANEL)), _vector(FLOAT))
        biases = [builder.load(builder.gep(bias_at, [LONG(v)]), align=4) for v in range(VECTORS)]
        number_of_x = WORD if kind.element == WORD else FLOAT
        stored = _vector(HALF) if kind.element == WORD else _vector(FLOAT)
        done = builder.append_basic_block("done")
        switch = builder.switch(count, done)
        for n in range(1, most_rows(x.dtype.bitwidth) + 1):
            block = builder.append_basic_block(f"rows{n}")
            switch.add_case(LONG(n), block)
            builder.position_at_end(block)
            places = [builder.mul(builder.add(at, LONG(r)), stride) for r in range(n)]
            sums = _loop(builder, n, [pointer(rows.data, place, number_of_x) for place in places], begin, size)
            for r, mine in enumerate(sums):
                offset = builder.mul(builder.add(out_row, LONG(r)), out_stride)
                offset = builder.add(offset, builder.mul(out_column, LONG(x.dtype.bitwidth // 8)))
                to = pointer(target.data, offset, stored)
                for v, each in enumerate(mine):
                    total = builder.fadd(each, biases[v])
                    total = _rounded(builder, total) if kind.element == WORD else total
                    builder.store(total, builder.gep(to, [LONG(v)]), align=2)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    index = types.intp
    return types.none(x, index, index, panels, index, bias, out, index, index), generate


@numba.njit(error_model="numpy")
def _panel(number, x, panels, bias, out, most):
    rows, column = len(x), number * PANEL
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


@cache
def _product(bits: int) -> Callable[..., None]:
    most = most_rows(bits)

    @numba.njit(parallel=True, error_model="numpy")
    def product(x, panels, bias, out):
        for number in numba.prange(len(panels)):
            _panel(np.int64(number), x, panels, bias, out, most)

    kernel: Callable[..., None] = keep_compiled(product)
    return kernel


def panel_product(x: NDArray[Any], panels: NDArray[Any], bias: NDArray[np.float32], out: NDArray[Any]) -> None:
    """`out` `[rows, N]` = x `[rows, K]` · weightᵀ + bias.

    float32, or bfloat16 as uint16 with an even K. The panels are `[N / PANEL, K, PANEL]`, or words of two bfloat16
    `[N / PANEL, K / 2, PANEL]`, aligned to a vector; the bias has a number for each output of a panel, `[panels · PANEL]`.
    """
    _product(x.dtype.itemsize * 8)(x, panels, bias, out)
