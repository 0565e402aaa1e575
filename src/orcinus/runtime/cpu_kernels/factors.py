"""Factors of attention's products: float32, or words of two bfloat16 where the processor multiplies and adds such pairs.

A kernel for bfloat16 works with words if the processor can (`DOT`): a step of its sums takes two numbers, which halves the
steps. Products of bfloat16 are exact in float32. A word holds two neighbouring dimensions of a query or key, the same
dimension of two neighbouring tokens' values, or these tokens' weights, rounded to bfloat16 (as in FlashAttention on GPUs).
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from orcinus.runtime.cpu_kernels.elements import ZERO, read_vector
from orcinus.runtime.cpu_kernels.vectors import DOT, FLOAT, HALF, INDEX, LANES, WORD, WORDS

BYTE = ir.IntType(8)


def are_words(x):
    """Whether the numbers of an array of this type are multiplied as words."""
    return DOT and x.dtype in (types.uint16, types.uint32)


def empty_factors(shape, x):
    """An array for factors of the rows of `x`."""
    raise NotImplementedError("for kernels")


@overload(empty_factors)
def _empty_factors(shape, x):
    kind = np.uint32 if are_words(x) else np.float32
    return lambda shape, x: np.empty(shape, kind)


@intrinsic
def num_factors(_, count, x):
    """Factors of `count` numbers that are multiplied as those of `x`."""

    def generate(_context, builder, _signature, arguments):
        count = arguments[0]
        return builder.ashr(builder.add(count, INDEX(1)), INDEX(1)) if are_words(x) else count

    return types.int64(types.int64, x), generate


def _halves(builder, data, at, lanes):
    """Neighbouring numbers as bfloat16, of bfloat16 or bytes."""
    if data.type.pointee == BYTE:  # whole numbers below 256 are bfloat16
        kind, wide = ir.VectorType(BYTE, lanes), ir.VectorType(WORD, lanes)
        stored = builder.load(builder.bitcast(builder.gep(data, [at]), kind.as_pointer()), align=1)
        numbers = builder.sitofp(builder.xor(stored, ir.Constant(kind, [ZERO] * lanes)), ir.VectorType(FLOAT, lanes))
        bits = builder.lshr(builder.bitcast(numbers, wide), ir.Constant(wide, [16] * lanes))
        return builder.trunc(bits, ir.VectorType(HALF, lanes))
    return builder.load(builder.bitcast(builder.gep(data, [at]), ir.VectorType(HALF, lanes).as_pointer()), align=1)


def _together(builder, first, second):
    """Words of two vectors of bfloat16."""
    wide = ir.VectorType(WORD, first.type.count)
    upper = builder.shl(builder.zext(second, wide), ir.Constant(wide, [16] * first.type.count))
    return builder.or_(builder.zext(first, wide), upper)


def read_factors(builder, data, at, *, words):
    """`LANES` neighbouring factors of a row: as many numbers from place `at`, or twice as many."""
    if not words:
        return read_vector(builder, data, at)
    return builder.bitcast(_halves(builder, data, at, 2 * LANES), WORDS)


def read_factor(builder, data, at, left, *, words):
    """One factor of a row that has `left` numbers from place `at` on."""
    if not words:
        return builder.extract_element(read_vector(builder, data, at, 1), WORD(0))
    more = builder.icmp_signed(">", left, INDEX(1))
    second = _halves(builder, data, builder.select(more, builder.add(at, INDEX(1)), at), 1)
    second = builder.select(more, second, ir.Constant(second.type, [0]))
    return builder.extract_element(_together(builder, _halves(builder, data, at, 1), second), WORD(0))


def read_pair(builder, first, second, lanes):
    """Words of two rows, each given as data and the place of its first number."""
    return _together(builder, *(_halves(builder, data, at, lanes) for data, at in (first, second)))


def rounded_words(builder, first, second):
    """Words of two vectors of float32 that are not negative, rounded to nearest."""
    kind = ir.VectorType(WORD, first.type.count)
    half, shift, upper = (ir.Constant(kind, [number] * kind.count) for number in (1 << 15, 16, -(1 << 16)))
    low, high = (builder.add(builder.bitcast(each, kind), half) for each in (first, second))
    return builder.or_(builder.lshr(low, shift), builder.and_(high, upper))


def _base(context, builder, signature, arguments, place):
    return context.make_array(signature.args[place])(context, builder, arguments[place]).data


def _stretches(builder, size, step):
    """Where vectors of `step` numbers begin in a row of `size`, and where single numbers are left."""
    whole = builder.mul(builder.sdiv(size, INDEX(step)), INDEX(step))
    return (INDEX(0), whole, INDEX(step)), (whole, size)


@intrinsic
def copy_factors(_, source, target):
    """The numbers of a contiguous row as factors."""

    def generate(context, builder, signature, arguments):
        words = target.dtype == types.uint32
        each = 2 if words else 1
        data, out = (_base(context, builder, signature, arguments, place) for place in (0, 1))
        size = builder.extract_value(context.make_array(source)(context, builder, arguments[0]).shape, 0)
        vectors, rest = _stretches(builder, size, each * LANES)

        def place(at):
            return builder.gep(out, [builder.ashr(at, INDEX(1)) if words else at])

        with cgutils.for_range_slice(builder, *vectors, intp=INDEX) as (at, _):
            numbers = read_factors(builder, data, at, words=words)
            builder.store(numbers, builder.bitcast(place(at), numbers.type.as_pointer()), align=4)
        with cgutils.for_range_slice(builder, *rest, INDEX(each), intp=INDEX) as (at, _):
            builder.store(read_factor(builder, data, at, builder.sub(size, at), words=words), place(at))
        return context.get_dummy_value()

    return types.void(source, target), generate


@intrinsic
def copy_values(_, first, second, tile, at):
    """The contiguous values of tokens `at` (an even number) and `at` + 1 as factors, in their row or two rows of a tile."""

    def generate(context, builder, signature, arguments):
        words = tile.dtype == types.uint32
        one, other, out = (_base(context, builder, signature, arguments, place) for place in (0, 1, 2))
        size = builder.extract_value(context.make_array(first)(context, builder, arguments[0]).shape, 0)
        wide = builder.extract_value(context.make_array(tile)(context, builder, arguments[2]).shape, 1)
        row = builder.mul(builder.ashr(arguments[3], INDEX(1)) if words else arguments[3], wide)

        def copy(at, lanes):
            if words:
                found = [read_pair(builder, (one, at), (other, at), lanes)]
            else:
                found = [read_vector(builder, data, at, lanes) for data in (one, other)]
            to = builder.add(row, at)
            for numbers in found:
                builder.store(numbers, builder.bitcast(builder.gep(out, [to]), numbers.type.as_pointer()), align=4)
                to = builder.add(to, wide)

        vectors, rest = _stretches(builder, size, LANES)
        with cgutils.for_range_slice(builder, *vectors, intp=INDEX) as (at, _):
            copy(at, LANES)
        with cgutils.for_range_slice(builder, *rest, INDEX(1), intp=INDEX) as (at, _):
            copy(at, 1)
        return context.get_dummy_value()

    return types.void(first, second, tile, types.int64), generate


@intrinsic
def copy_weights(_, weights, begin, count, out, out_begin):
    """`count` weights of one query, as factors; arrays are contiguous and seen as flat, `count` is a multiple of LANES."""

    def generate(context, builder, signature, arguments):
        _, begin, count, _, out_begin = arguments
        words = out.dtype == types.uint32
        data, target = (_base(context, builder, signature, arguments, place) for place in (0, 3))
        with cgutils.for_range_slice(builder, INDEX(0), count, INDEX(LANES), intp=INDEX) as (at, _):
            numbers = read_vector(builder, data, builder.add(begin, at))
            if words:
                ends = [ir.Constant(ir.VectorType(WORD, LANES // 2), [*range(first, LANES, 2)]) for first in (0, 1)]
                numbers = rounded_words(builder, *(builder.shuffle_vector(numbers, numbers, end) for end in ends))
                at = builder.ashr(at, INDEX(1))
            place = builder.gep(target, [builder.add(out_begin, at)])
            builder.store(numbers, builder.bitcast(place, numbers.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(weights, types.int64, types.int64, out, types.int64), generate


def tile_weights(weights, count, x):
    """The weights of a tile, `count` rows (an even number) of `lanes` queries, as factors."""
    raise NotImplementedError("for kernels")


@overload(tile_weights)
def _tile_weights(weights, count, x):
    def packed(weights, count, x):
        _pack_rows(weights, count)
        return weights.view(np.uint32)

    return packed if are_words(x) else lambda weights, count, x: weights


@intrinsic
def _pack_rows(_, weights, count):
    """Words of rows 2 · j and 2 · j + 1 of a tile, in place as row j."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(weights)(context, builder, arguments[0])
        lanes = 2 * LANES
        kind = ir.VectorType(WORD, lanes).as_pointer()
        with cgutils.for_range(builder, builder.ashr(arguments[1], INDEX(1)), intp=INDEX) as loop:
            at = builder.mul(loop.index, INDEX(lanes))
            rows = [
                read_vector(builder, array.data, builder.add(builder.mul(at, INDEX(2)), INDEX(n * lanes)), lanes)
                for n in (0, 1)
            ]
            found = rounded_words(builder, *rows)
            builder.store(found, builder.bitcast(builder.gep(array.data, [at]), kind), align=4)
        return context.get_dummy_value()

    return types.void(weights, types.int64), generate
