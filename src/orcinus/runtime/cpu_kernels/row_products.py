"""Products of one or two rows with many others, with sums in registers: rows · othersᵀ, and weighted sums of others.

Numba's own loops would keep sums in memory, and add up the lanes of a vector for each product alone. Arrays are contiguous and
seen as flat: an `at` counts numbers from the first. Each result is one chain of additions that depends on its own row and line
alone.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from functools import partial
from itertools import product

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orcinus.runtime.cpu_kernels.elements import read_vector
from orcinus.runtime.cpu_kernels.token_products import QUERIES, VECTORS, add_product, data_of, each_case
from orcinus.runtime.cpu_kernels.vectors import INDEX, LANES, VECTOR, ZEROS, everywhere, total

TOKENS = 4  # at once at most: with the factors they fit into 16 registers


@intrinsic
def dots(_, query, query_at, queries, keys, key_at, tokens, size, whole, scores, score_at, score_step):
    """scores[q, t] = query[q, :whole] · keys[t, :whole] for 1 or QUERIES queries and 1 or TOKENS tokens.

    Rows of `query` and `keys` have `size` numbers, of which `whole` (a multiple of LANES) count; rows of `scores` have
    `score_step`.
    """

    def generate(context, builder, signature, arguments):
        _, query_at, queries, _, key_at, tokens, size, whole, _, score_at, score_step = arguments
        query, keys, scores = data_of(context, builder, signature, arguments, (0, 3, 8))
        row = partial(cgutils.alloca_once_value, builder)

        def case(queries, tokens):
            sums = [[row(ZEROS) for _ in range(tokens)] for _ in range(queries)]
            for line in sums:
                for place in line:
                    builder.store(ZEROS, place)
            with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(LANES), intp=INDEX) as (d, _):
                qs, ks = (
                    [
                        read_vector(builder, data, builder.add(builder.add(at, d), builder.mul(size, INDEX(n))))
                        for n in range(count)
                    ]
                    for data, at, count in ((query, query_at, queries), (keys, key_at, tokens))
                )
                for q, line in zip(qs, sums, strict=True):
                    for k, place in zip(ks, line, strict=True):
                        add_product(builder, q, k, place)
            for q, line in enumerate(sums):
                first = builder.add(score_at, builder.mul(score_step, INDEX(q)))
                for t, place in enumerate(line):
                    builder.store(total(builder, builder.load(place)), builder.gep(scores, [builder.add(first, INDEX(t))]))

        each_case(builder, (queries, tokens), product((1, QUERIES), (1, TOKENS)), case)
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
        weights, values, sums = data_of(context, builder, signature, arguments, (0, 4, 9))

        def case(queries, vectors):
            firsts = [builder.add(sum_at, builder.mul(size, INDEX(q))) for q in range(queries)]
            starts = [[builder.add(first, INDEX(LANES * v)) for v in range(vectors)] for first in firsts]
            places = [[builder.bitcast(builder.gep(sums, [start]), VECTOR.as_pointer()) for start in line] for line in starts]
            totals = [[cgutils.alloca_once(builder, VECTOR) for _ in line] for line in places]
            for line, mine in zip(places, totals, strict=True):
                for place, sum_of in zip(line, mine, strict=True):
                    builder.store(builder.load(place, align=4), sum_of)
            with cgutils.for_range(builder, tokens, intp=INDEX) as loop:
                at = builder.add(value_at, builder.mul(size, loop.index))
                read = [read_vector(builder, values, builder.add(at, INDEX(LANES * v))) for v in range(vectors)]
                for q, mine in enumerate(totals):
                    at_weight = builder.add(builder.add(weight_at, loop.index), builder.mul(weight_step, INDEX(q)))
                    weight = everywhere(builder, builder.load(builder.gep(weights, [at_weight])))
                    for value, place in zip(read, mine, strict=True):
                        add_product(builder, weight, value, place)
            for line, mine in zip(places, totals, strict=True):
                for place, sum_of in zip(line, mine, strict=True):
                    builder.store(builder.load(sum_of), place, align=4)

        each_case(builder, (queries, vectors), product((1, QUERIES), (1, VECTORS)), case)
        return context.get_dummy_value()

    at = types.int64
    return types.void(weights, at, at, at, values, at, at, at, at, sums, at), generate
