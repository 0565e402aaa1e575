"""Products of small matrices at the speed of the processor, for other kernels (Goto and van de Geijn, 2008, section 6).

A tile of the result stays in registers: `ROWS` rows of `LANES` numbers. Numba cannot say that, LLVM can: a vector of `LANES`
numbers becomes as many registers as the processor needs for it.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orcinus.runtime.cpu_kernels import vectors
from orcinus.runtime.cpu_kernels.vectors import FLOAT, INDEX, WORD, add_products, everywhere, has

ROWS, LANES = 8 if has("avx512f") else 6, 2 * vectors.LANES  # as many registers as leave room for the factors
SIDE = 16  # of a square that `transpose` turns
VECTOR = ir.VectorType(FLOAT, LANES)


def vector_at(builder, base, at):
    """A pointer to LANES numbers of an array, from an element."""
    return builder.bitcast(builder.gep(base, [at]), VECTOR.as_pointer())


@intrinsic
def tile_product(_, a, begin, row_step, step, b, count, scale, out, out_begin):
    """out[i, :] = scale · sum over k < count of a[begin + i · row_step + k · step] · b[k, :], for i < ROWS.

    Without a scale (None) the sum is added to what is there. Factors are float32 or words (`factors.py`). Arrays are contiguous
    and seen as flat; `b` has rows of LANES factors, `out` rows of LANES float32, from its element `out_begin`. Each number of
    `out` is one chain of additions in the order of k, so that it depends on nothing beside it.
    """
    adds = scale == types.none

    def generate(context, builder, signature, arguments):
        _, begin, row_step, step, _, count, scale, _, out_begin = arguments
        a, b, out = (context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in (0, 4, 7))
        kind = ir.VectorType(a.type.pointee, LANES)
        places = [vector_at(builder, out, builder.add(out_begin, INDEX(row * LANES))) for row in range(ROWS)]
        sums = [cgutils.alloca_once(builder, VECTOR) for _ in places]
        for place, total in zip(places, sums, strict=True):
            builder.store(builder.load(place, align=4) if adds else ir.Constant(VECTOR, [0.0] * LANES), total)
        with cgutils.for_range(builder, count, intp=INDEX) as loop:
            place = builder.gep(b, [builder.mul(loop.index, INDEX(LANES))])
            factors = builder.load(builder.bitcast(place, kind.as_pointer()), align=4)
            first = builder.add(begin, builder.mul(loop.index, step))
            for row, total in enumerate(sums):
                at = builder.add(first, builder.mul(row_step, INDEX(row)))
                factor = everywhere(builder, builder.load(builder.gep(a, [at]), align=4), LANES)
                builder.store(add_products(builder, factor, factors, builder.load(total)), total)
        for place, total in zip(places, sums, strict=True):
            found = builder.load(total)
            builder.store(found if adds else builder.fmul(found, everywhere(builder, scale, LANES)), place, align=4)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(a, whole, whole, whole, b, whole, scale, out, whole), generate


@intrinsic
def transpose(_, a, begin, step, out, out_begin, out_step):
    """out[j, i] = a[i, j] for i, j < SIDE.

    Arrays are contiguous float32, seen as flat, with rows at distances of `step` and `out_step`. Blocks of half the side are
    exchanged across the diagonal, then blocks inside these, and so on.
    """

    def generate(context, builder, signature, arguments):
        _, begin, step, _, out_begin, out_step = arguments
        a, out = (context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in (0, 3))
        kind = ir.VectorType(FLOAT, SIDE)

        def place(base, first, distance, row):
            at = builder.add(first, builder.mul(distance, INDEX(row)))
            return builder.bitcast(builder.gep(base, [at]), kind.as_pointer())

        def pick(one, other, places):
            return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(WORD, SIDE), places))

        rows = [builder.load(place(a, begin, step, row), align=4) for row in range(SIDE)]
        half = SIDE // 2
        while half:
            upper = [k if not k & half else SIDE + k - half for k in range(SIDE)]
            lower = [k + half if not k & half else SIDE + k for k in range(SIDE)]
            for row in (row for row in range(SIDE) if not row & half):
                one, other = rows[row], rows[row + half]
                rows[row], rows[row + half] = pick(one, other, upper), pick(one, other, lower)
            half //= 2
        for row, numbers in enumerate(rows):
            builder.store(numbers, place(out, out_begin, out_step, row), align=4)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(a, whole, whole, out, whole, whole), generate
