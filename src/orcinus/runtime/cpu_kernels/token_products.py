"""Products of a few queries with the keys of tokens, and of weights with their values, with sums in registers.

Numba's own loops would keep sums in memory, and add up the lanes of a vector for each score alone. Arrays are contiguous and
seen as flat: an `at` counts numbers from the first. Each result is one chain of additions that depends on its own row and token
alone.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from functools import partial
from itertools import product

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orcinus.runtime.cpu_kernels.elements import ZERO
from orcinus.runtime.cpu_kernels.vectors import FLOAT, INDEX, LANES, VECTOR, WORDS, ZEROS, everywhere, fma, total, words

QUERIES, TOKENS, VECTORS = 2, 4, 4  # at once at most: with the factors they fit into 16 registers


def _place(builder, data, at, kind):
    return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())


def _read(builder, data, at):
    """LANES neighbouring numbers as float32."""
    stored = ir.VectorType(data.type.pointee, LANES)
    value = builder.load(_place(builder, data, at, stored), align=1)
    if stored.element == FLOAT:
        return value
    if stored.element == ir.IntType(8):
        return builder.sitofp(builder.xor(value, ir.Constant(stored, [ZERO] * LANES)), VECTOR)
    return builder.bitcast(builder.shl(builder.zext(value, WORDS), words(16)), VECTOR)


def _add(builder, x, y, place):
    """Add x · y to the vector behind a pointer."""
    builder.store(fma(builder, x, y, builder.load(place)), place)


def _each_case(builder, counts, sizes, generate):
    """Code for each of the `sizes` that the values `counts` may have."""
    after, key = builder.append_basic_block("after"), builder.add(builder.mul(counts[0], INDEX(16)), counts[1])
    switch = builder.switch(key, after)
    for first, second in sizes:
        switch.add_case(INDEX(16 * first + second), block := builder.append_basic_block(f"case{first}x{second}"))
        builder.position_at_end(block)
        generate(first, second)
        builder.branch(after)
    builder.position_at_end(after)


def _data(context, builder, signature, arguments, places):
    return (context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in places)


@intrinsic
def dots(_, query, query_at, queries, keys, key_at, tokens, size, whole, scores, score_at, score_step):
    """scores[q, t] = query[q, :whole] · keys[t, :whole] for 1 or QUERIES queries and 1 or TOKENS tokens.

    Rows of `query` and `keys` have `size` numbers, of which `whole` (a multiple of LANES) count; rows of `scores` have
    `score_step`.
    """

    def generate(context, builder, signature, arguments):
        _, query_at, queries, _, key_at, tokens, size, whole, _, score_at, score_step = arguments
        query, keys, scores = _data(context, builder, signature, arguments, (0, 3, 8))
        row = partial(cgutils.alloca_once_value, builder)

        def case(queries, tokens):
            sums = [[row(ZEROS) for _ in range(tokens)] for _ in range(queries)]
            for line in sums:
                for place in line:
                    builder.store(ZEROS, place)
            with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(LANES), intp=INDEX) as (d, _):
                qs, ks = (
                    [_read(builder, data, builder.add(builder.add(at, d), builder.mul(size, INDEX(n)))) for n in range(count)]
                    for data, at, count in ((query, query_at, queries), (keys, key_at, tokens))
                )
                for q, line in zip(qs, sums, strict=True):
                    for k, place in zip(ks, line, strict=True):
                        _add(builder, q, k, place)
            for q, line in enumerate(sums):
                first = builder.add(score_at, builder.mul(score_step, INDEX(q)))
                for t, place in enumerate(line):
                    builder.store(total(builder, builder.load(place)), builder.gep(scores, [builder.add(first, INDEX(t))]))

        _each_case(builder, (queries, tokens), product((1, QUERIES), (1, TOKENS)), case)
        return context.get_dummy_value()

    at = types.int64
    return types.void(query, at, at, keys, at, at, at, at, scores, at, at), generate


@intrinsic
def add_weighted(_, weights, weight_at, weight_step, queries, values, value_at, size, tokens, vectors, sums, sum_at):
    """sums[q, d] += sum over t < tokens of weights[q, t] · values[t, d].

    There are 1 or QUERIES queries, and 1 or VECTORS vectors of d. Rows of `values` and `sums` have `size` numbers, rows of
    `weights` have `weight_step`.
    """

    def generate(context, builder, signature, arguments):
        _, weight_at, weight_step, queries, _, value_at, size, tokens, vectors, _, sum_at = arguments
        weights, values, sums = _data(context, builder, signature, arguments, (0, 4, 9))

        def case(queries, vectors):
            firsts = [builder.add(sum_at, builder.mul(size, INDEX(q))) for q in range(queries)]
            starts = [[builder.add(first, INDEX(LANES * v)) for v in range(vectors)] for first in firsts]
            places = [[_place(builder, sums, start, VECTOR) for start in line] for line in starts]
            totals = [[cgutils.alloca_once(builder, VECTOR) for _ in line] for line in places]
            for line, mine in zip(places, totals, strict=True):
                for place, sum_of in zip(line, mine, strict=True):
                    builder.store(builder.load(place, align=4), sum_of)
            with cgutils.for_range(builder, tokens, intp=INDEX) as loop:
                at = builder.add(value_at, builder.mul(size, loop.index))
                read = [_read(builder, values, builder.add(at, INDEX(LANES * v))) for v in range(vectors)]
                for q, mine in enumerate(totals):
                    at_weight = builder.add(builder.add(weight_at, loop.index), builder.mul(weight_step, INDEX(q)))
                    weight = everywhere(builder, builder.load(builder.gep(weights, [at_weight])))
                    for value, place in zip(read, mine, strict=True):
                        _add(builder, weight, value, place)
            for line, mine in zip(places, totals, strict=True):
                for place, sum_of in zip(line, mine, strict=True):
                    builder.store(builder.load(sum_of), place, align=4)

        _each_case(builder, (queries, vectors), product((1, QUERIES), (1, VECTORS)), case)
        return context.get_dummy_value()

    at = types.int64
    return types.void(weights, at, at, at, values, at, at, at, at, sums, at), generate
