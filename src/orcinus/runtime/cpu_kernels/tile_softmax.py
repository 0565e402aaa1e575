"""The online softmax of a tile of scores, all lanes of a vector at once (Milakov and Gimelshein, 2018).

It is written in LLVM's language for the same reason as `tile_product`: Numba's loops over lanes reach a quarter of the speed.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orcinus.runtime.cpu_kernels.elements import EXP2, LOG2_E
from orcinus.runtime.cpu_kernels.tile_product import LANES, VECTOR, vector_at
from orcinus.runtime.cpu_kernels.vectors import INDEX, WORD, fma

INTEGERS = ir.VectorType(WORD, LANES)


def _constant(number):
    return ir.Constant(VECTOR, [float(number)] * LANES)


def _largest(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _exp(builder, x):
    """`elements.exp` of a vector."""
    power = _largest(builder, builder.fmul(x, _constant(LOG2_E)), _constant(-127))
    kind = ir.FunctionType(VECTOR, [VECTOR])
    whole = builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.floor.v{LANES}f32"), [power])
    fraction, value = builder.fsub(power, whole), _constant(EXP2[0])
    for factor in EXP2[1:]:
        value = fma(builder, value, fraction, _constant(factor))
    exponent = builder.add(builder.fptosi(whole, INTEGERS), ir.Constant(INTEGERS, [127] * LANES))
    return builder.fmul(value, builder.bitcast(builder.shl(exponent, ir.Constant(INTEGERS, [23] * LANES)), VECTOR))


@intrinsic
def tile_softmax(_, scores, count, peaks, totals, sums, rows):
    """Turn scores into weights, and rescale sums under the new maximum.

    All are contiguous float32 with rows of LANES: `count` rows of scores (an even number), one of the largest score yet and one
    of the sum of weights yet, and `rows` of sums.
    """

    def generate(context, builder, signature, arguments):
        scores, peaks, totals, sums = (
            context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in (0, 2, 3, 4)
        )
        _, count, _, _, _, rows = arguments

        def row(base, number):
            return vector_at(builder, base, builder.mul(number, INDEX(LANES)))

        peak_at, total_at = row(peaks, INDEX(0)), row(totals, INDEX(0))
        before = builder.load(peak_at, align=4)
        two = [cgutils.alloca_once_value(builder, before) for _ in range(2)]  # chains: each maximum waits for the one before
        with cgutils.for_range(builder, builder.sdiv(count, INDEX(2)), intp=INDEX) as loop:
            for place, peak in enumerate(two):
                score = builder.load(row(scores, builder.add(builder.mul(loop.index, INDEX(2)), INDEX(place))), align=4)
                builder.store(_largest(builder, score, builder.load(peak)), peak)
        peak = _largest(builder, *map(builder.load, two))
        shrink = _exp(builder, builder.fsub(before, peak))
        total = cgutils.alloca_once_value(builder, builder.fmul(builder.load(total_at, align=4), shrink))
        with cgutils.for_range(builder, count, intp=INDEX) as loop:
            place = row(scores, loop.index)
            weight = _exp(builder, builder.fsub(builder.load(place, align=4), peak))
            builder.store(weight, place, align=4)
            builder.store(builder.fadd(builder.load(total), weight), total)
        builder.store(peak, peak_at, align=4)
        builder.store(builder.load(total), total_at, align=4)
        changed = builder.bitcast(builder.fcmp_unordered("!=", shrink, _constant(1)), ir.IntType(LANES))
        with builder.if_then(builder.icmp_unsigned("!=", changed, ir.IntType(LANES)(0))):  # noqa: SIM117
            with cgutils.for_range(builder, rows, intp=INDEX) as loop:
                place = row(sums, loop.index)
                builder.store(builder.fmul(builder.load(place, align=4), shrink), place, align=4)
        return context.get_dummy_value()

    return types.void(scores, types.int64, peaks, totals, sums, types.int64), generate
