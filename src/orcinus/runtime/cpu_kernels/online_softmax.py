"""The online softmax of attention, in one order for decodes and prompts (Milakov and Gimelshein, 2018).

A query's keys are taken in tiles of `KEYS`, tiles in pieces of `PIECE`, counted from the sequence's first token. The order of
all sums is fixed, for every query and wherever its row stands:

    piece:  for tile:  m' = max(m, max s);  p = exp(s - m');  a = exp(m - m')
                       l = ((l · a + p₀) + p₁) + …            key by key
                       acc = acc · a, then + p₀ · v₀, + p₁ · v₁, …     fused multiply-adds, key by key
    query:  (M, L, Acc) = the first piece's (m, l, acc); then each later piece joins:
            M' = max(M, m);  L, Acc = l · exp(m - M') + L · exp(M - M'), the same for acc

A score is a chain of fused multiply-adds, too: dimension by dimension. Where bfloat16 is multiplied in pairs (`factors.py`), a
step of these chains takes two dimensions, or two keys of which the first is even. What a query does not see has weight 0, which
changes no bit, so leaving it out and computing it are the same.

Most is in LLVM's language: Numba's loops over lanes reach a quarter of the speed, and it may reorder sums.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orcinus.runtime.compiled import exact
from orcinus.runtime.cpu_kernels import vectors
from orcinus.runtime.cpu_kernels.elements import EXP2, F32, LOG2_E
from orcinus.runtime.cpu_kernels.tile_product import LANES, VECTOR, vector_at
from orcinus.runtime.cpu_kernels.vectors import FLOAT, INDEX, WORD, everywhere, fma, largest, pick

KEYS = 96  # tokens of a tile; with a prompt's queries, both tiles of a head of 128 take 96 KiB, a part of the L2 cache
PIECE = 10 * KEYS  # tokens; long enough that joining pieces costs nothing beside reading them
NOTHING = F32(-1e30)  # a score with weight 0; unlike -inf it makes no NaN
LEAST = F32(-1e25)  # the least maximum: the weight of NOTHING is 0 even where nothing else was seen yet
EVERYTHING = 2**62  # larger than any sequence


def _constant(kind, number):
    return ir.Constant(kind, [float(number)] * kind.count)


def _exp(builder, x):
    """`elements.exp` of a vector, in one order of operations."""
    kind, integers = x.type, ir.VectorType(WORD, x.type.count)
    power = largest(builder, builder.fmul(x, _constant(kind, LOG2_E)), _constant(kind, -127))
    floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), f"llvm.floor.v{kind.count}f32")
    whole = builder.call(floor, [power])
    fraction, value = builder.fsub(power, whole), _constant(kind, EXP2[0])
    for factor in EXP2[1:]:
        value = fma(builder, value, fraction, _constant(kind, factor))
    exponent = builder.add(builder.fptosi(whole, integers), ir.Constant(integers, [127] * kind.count))
    return builder.fmul(value, builder.bitcast(builder.shl(exponent, ir.Constant(integers, [23] * kind.count)), kind))


@intrinsic
def weight(_, x):
    """exp(x) of a number x <= 0, with the bits that it has as a lane of a vector."""

    def generate(_context, builder, _signature, arguments):
        return builder.extract_element(_exp(builder, everywhere(builder, arguments[0])), WORD(0))

    return types.float32(types.float32), generate


@intrinsic
def multiply_add(_, x, y, z):
    """x · y + z, fused as in vectors."""

    def generate(_context, builder, _signature, arguments):
        kind = ir.FunctionType(FLOAT, [FLOAT] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.f32"), arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def cap_scores(_, scores, begin, count, cap):
    """scores[begin : begin + count] = cap · tanh(scores / cap), for a multiple of the lanes of a vector.

    `scores` is contiguous float32, seen as flat; the tanh's absolute error is below 3e-7.
    """

    def generate(context, builder, signature, arguments):
        _, begin, count, cap = arguments
        scores = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        kind, lanes = vectors.VECTOR, vectors.LANES
        one, limit = _constant(kind, 1), everywhere(builder, cap)
        with cgutils.for_range_slice(builder, begin, builder.add(begin, count), INDEX(lanes), intp=INDEX) as (at, _):
            place = builder.bitcast(builder.gep(scores, [at]), kind.as_pointer())
            x = builder.fdiv(builder.load(place, align=4), limit)
            negative = builder.fcmp_ordered("<", x, _constant(kind, 0))
            power = _exp(builder, builder.fmul(builder.select(negative, x, builder.fneg(x)), _constant(kind, 2)))
            tanh = builder.fdiv(builder.fsub(one, power), builder.fadd(one, power))
            builder.store(builder.fmul(limit, builder.select(negative, builder.fneg(tanh), tanh)), place, align=4)
        return context.get_dummy_value()

    return types.void(scores, types.int64, types.int64, types.float32), generate


@intrinsic
def row_softmax(_, scores, begin, count, peaks, at):
    """Turn the scores of one query into weights; returns what its sums are to be multiplied by.

    The scores are `count` numbers from `begin` on, a multiple of the lanes of a vector; `peaks[at]` is the largest score yet.
    Arrays are contiguous float32, seen as flat.
    """

    def generate(context, builder, signature, arguments):
        scores, peaks = (context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in (0, 3))
        _, begin, count, _, at = arguments
        kind, lanes = vectors.VECTOR, vectors.LANES
        end = builder.add(begin, count)

        def place(at):
            return builder.bitcast(builder.gep(scores, [at]), kind.as_pointer())

        peak_at = builder.gep(peaks, [at])
        before = everywhere(builder, builder.load(peak_at))
        found = cgutils.alloca_once(builder, kind)
        builder.store(before, found)
        with cgutils.for_range_slice(builder, begin, end, INDEX(lanes), intp=INDEX) as (at, _):
            builder.store(largest(builder, builder.load(place(at), align=4), builder.load(found)), found)
        peak, half = builder.load(found), lanes // 2
        while half:
            swapped = pick(builder, peak, peak, [lane ^ half for lane in range(lanes)])
            peak, half = largest(builder, peak, swapped), half // 2
        with cgutils.for_range_slice(builder, begin, end, INDEX(lanes), intp=INDEX) as (at, _):
            where = place(at)
            builder.store(_exp(builder, builder.fsub(builder.load(where, align=4), peak)), where, align=4)
        builder.store(builder.extract_element(peak, WORD(0)), peak_at)
        return builder.extract_element(_exp(builder, builder.fsub(before, peak)), WORD(0))

    return types.float32(scores, types.int64, types.int64, peaks, types.int64), generate


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
                builder.store(largest(builder, score, builder.load(peak)), peak)
        peak = largest(builder, *map(builder.load, two))
        shrink = _exp(builder, builder.fsub(before, peak))
        total = cgutils.alloca_once_value(builder, builder.fmul(builder.load(total_at, align=4), shrink))
        with cgutils.for_range(builder, count, intp=INDEX) as loop:
            place = row(scores, loop.index)
            weight = _exp(builder, builder.fsub(builder.load(place, align=4), peak))
            builder.store(weight, place, align=4)
            builder.store(builder.fadd(builder.load(total), weight), total)
        builder.store(peak, peak_at, align=4)
        builder.store(builder.load(total), total_at, align=4)
        changed = builder.bitcast(builder.fcmp_unordered("!=", shrink, _constant(VECTOR, 1)), ir.IntType(LANES))
        with builder.if_then(builder.icmp_unsigned("!=", changed, ir.IntType(LANES)(0))):  # noqa: SIM117
            with cgutils.for_range(builder, rows, intp=INDEX) as loop:
                place = row(sums, loop.index)
                builder.store(builder.fmul(builder.load(place, align=4), shrink), place, align=4)
        return context.get_dummy_value()

    return types.void(scores, types.int64, peaks, totals, sums, types.int64), generate


@exact(forceinline=True)
def join_peaks(peak, total, peak_yet, total_yet):
    """A piece's largest score and sum of weights join those of earlier pieces.

    Returns both, and the factors of the piece's sums and of earlier ones.
    """
    most = max(peak, peak_yet)
    mine, earlier = weight(peak - most), weight(peak_yet - most)
    return most, multiply_add(total, mine, total_yet * earlier), mine, earlier
