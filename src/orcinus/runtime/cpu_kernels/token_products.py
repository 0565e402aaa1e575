"""Products of a few queries with the keys of tokens, and of weights with their values, with sums in registers.

Arrays are contiguous and seen as flat: an `at` counts numbers from the first. Tokens lie anywhere: `starts` says where each
one's row of keys or values begins. The order of sums is that of `online_softmax`. So that a score is one chain of additions,
its lane is a token: squares of keys are transposed in registers, which costs less than adding up lanes for each score.

A processor foresees what is read next only within a page of memory, so kernels ask for it: values while they read keys, and
the next keys while they read values. They ask line by line, because many at once would keep others from being read.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from itertools import product

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orcinus.runtime.cpu_kernels.elements import read_vector
from orcinus.runtime.cpu_kernels.factors import read_factor, read_factors, read_pair
from orcinus.runtime.cpu_kernels.vectors import (
    FLOAT,
    INDEX,
    LANES,
    VECTOR,
    WORD,
    WORDS,
    ZEROS,
    add_products,
    everywhere,
    fetch,
    in_order,
    in_registers,
    transposed,
    write_back,
)

LINE = 64  # bytes of a cache line
QUERIES, VECTORS = 2, 4  # at once at most: with the factors they fit into 16 registers
SQUARES = 2  # vectors of tokens whose scores are computed at once: one waits while the other adds


def add_product(builder, x, y, place):
    """Add x · y to the vector behind a pointer."""
    builder.store(add_products(builder, x, y, builder.load(place)), place)


def each_case(builder, counts, sizes, generate):
    """Code for each of the `sizes` that the values `counts` may have."""
    after, key = builder.append_basic_block("after"), builder.add(builder.mul(counts[0], INDEX(16)), counts[1])
    switch = builder.switch(key, after)
    for first, second in sizes:
        switch.add_case(INDEX(16 * first + second), block := builder.append_basic_block(f"case{first}x{second}"))
        builder.position_at_end(block)
        generate(first, second)
        builder.branch(after)
    builder.position_at_end(after)


def data_of(context, builder, signature, arguments, places):
    """Pointers to the first numbers of arrays among the arguments."""
    return (context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in places)


def _per_line(data):
    """Numbers of a cache line, for a pointer to the first one."""
    return LINE // (4 if data.type.pointee == FLOAT else data.type.pointee.width // 8)


def _fetch_new_lines(builder, data, firsts, at, wanted):
    """If wanted, ask for place `at` of rows that begin at these places, whenever it is the first of a line."""
    new = builder.icmp_signed("==", builder.and_(at, INDEX(_per_line(data) - 1)), INDEX(0))
    with builder.if_then(builder.and_(wanted, new)):
        for first in firsts:
            fetch(builder, builder.gep(data, [builder.add(first, at)]))


def _fetch_part(builder, data, first, count):
    """Ask for `count` numbers from place `first`."""
    for place in range(0, count, _per_line(data)):
        fetch(builder, builder.gep(data, [builder.add(first, INDEX(place))]))


@intrinsic
def fetch_rows(_, x, starts, begin, end, size):
    """Ask for the rows of tokens [begin, end)."""

    def generate(context, builder, signature, arguments):
        _, _, begin, end, size = arguments
        data, starts = data_of(context, builder, signature, arguments, (0, 1))
        numbers = _per_line(data)
        with cgutils.for_range_slice(builder, begin, end, INDEX(1), intp=INDEX) as (at, _):
            first = builder.load(builder.gep(starts, [at]))
            last = builder.add(first, size)
            with cgutils.for_range_slice(builder, first, last, INDEX(2 * numbers), intp=INDEX) as (place, _):
                fetch(builder, builder.gep(data, [place]))
                fetch(builder, builder.gep(data, [builder.add(place, INDEX(numbers))]))
        return context.get_dummy_value()

    return types.void(x, starts, types.int64, types.int64, types.int64), generate


@intrinsic
def dots(
    _, query, query_at, queries, keys, values, starts, first_token, squares, size, scale, scores, score_at, score_step, ask
):
    """scores[q, t] = scale · query[q] · key of t for 1 or QUERIES queries, and 1 or SQUARES vectors of tokens.

    Rows of `keys` have `size` numbers, those of `query` their factors, rows of `scores` have `score_step`. If `ask`, the memory
    is asked for these tokens' values meanwhile.
    """
    words = query.dtype == types.uint32
    each = 2 if words else 1  # numbers of a factor

    def generate(context, builder, signature, arguments):
        _, query_at, queries, _, _, _, first_token, squares, size, scale, _, score_at, score_step, ask = arguments
        query, keys, values, starts, scores = data_of(context, builder, signature, arguments, (0, 3, 4, 5, 10))
        whole = builder.mul(builder.sdiv(size, INDEX(each * LANES)), INDEX(each * LANES))
        steps = builder.sdiv(builder.add(size, INDEX(each - 1)), INDEX(each))

        def case(queries, squares):
            firsts = [builder.load(builder.gep(starts, [builder.add(first_token, INDEX(t))])) for t in range(squares * LANES)]
            asked = [builder.add(query_at, builder.mul(steps, INDEX(q))) for q in range(queries)]
            sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(squares)] for _ in range(queries)]
            for place in (place for line in sums for place in line):
                builder.store(ZEROS, place)

            def add(square, d, column):
                for first, line in zip(asked, sums, strict=True):
                    number = builder.load(builder.gep(query, [builder.add(first, d)]))
                    add_product(builder, everywhere(builder, number), column, line[square])

            with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(each * LANES), intp=INDEX) as (d, _):
                for square in range(squares):
                    in_order(builder)
                    mine = firsts[square * LANES : (square + 1) * LANES]
                    _fetch_new_lines(builder, values, mine, d, ask)
                    read = [read_factors(builder, keys, builder.add(first, d), words=words) for first in mine]
                    for place, column in enumerate(transposed(builder, read)):
                        add(square, builder.add(builder.sdiv(d, INDEX(each)), INDEX(place)), column)
            with cgutils.for_range_slice(builder, whole, size, INDEX(each), intp=INDEX) as (d, _):  # odd sizes: one by one
                for square in range(squares):
                    column = ir.Constant(WORDS if words else VECTOR, ir.Undefined)
                    for lane, first in enumerate(firsts[square * LANES : (square + 1) * LANES]):
                        factor = read_factor(builder, keys, builder.add(first, d), builder.sub(size, d), words=words)
                        column = builder.insert_element(column, factor, WORD(lane))
                    add(square, builder.sdiv(d, INDEX(each)), column)
            for q, line in enumerate(sums):
                first = builder.add(score_at, builder.mul(score_step, INDEX(q)))
                for square, place in enumerate(line):
                    target = builder.gep(scores, [builder.add(first, INDEX(square * LANES))])
                    score = builder.fmul(builder.load(place), everywhere(builder, scale))
                    builder.store(score, builder.bitcast(target, VECTOR.as_pointer()), align=4)

        each_case(builder, (queries, squares), product((1, QUERIES), (1, SQUARES)), case)
        return context.get_dummy_value()

    at = types.int64
    return types.void(query, at, at, keys, values, starts, at, at, at, types.float32, scores, at, at, types.boolean), generate


def _places(builder, base, starts, kind, count):
    """`count` neighbouring vectors from each start."""
    numbers = (builder.add(first, INDEX(kind.count * v)) for first in starts for v in range(count))
    return [builder.bitcast(builder.gep(base, [at]), kind.as_pointer()) for at in numbers]


def _read_values(builder, values, begins, offset, lanes):
    """A vector of one token's values, or words of two tokens' values."""
    first, *second = (builder.add(begin, INDEX(offset)) for begin in begins)
    if not second:
        return read_vector(builder, values, first, lanes)
    return read_pair(builder, (values, first), (values, second[0]), lanes)


def _adding(lanes, most):
    """`add_weighted` for vectors of so many numbers, 1 or `most` of them at once."""
    kind = ir.VectorType(FLOAT, lanes)

    @intrinsic
    def add(
        _, weights, weight_at, weight_step, queries, factors, values, keys, starts, first_token, tokens, column, size, vectors,
        sums, sum_at, totals, total_at, ahead,
    ):  # fmt: skip
        together = 2 if factors.dtype == types.uint32 else 1  # tokens of a factor

        def generate(context, builder, signature, arguments):
            weights, factors, values, keys, starts, sums, totals = data_of(
                context, builder, signature, arguments, (0, 4, 5, 6, 7, 13, 15)
            )
            weight_at, weight_step, queries, first_token, tokens, column, size, vectors, sum_at, total_at, ahead = (
                arguments[at] for at in (1, 2, 3, 8, 9, 10, 11, 12, 14, 16, 17)
            )
            asks = builder.icmp_signed(">", ahead, INDEX(0))
            steps = builder.sdiv(builder.add(tokens, INDEX(together - 1)), INDEX(together))

            def case(queries, vectors):
                lines = [builder.add(sum_at, builder.mul(size, INDEX(q))) for q in range(queries)]
                places = _places(builder, sums, lines, kind, vectors)
                places += [builder.gep(totals, [builder.add(total_at, INDEX(q))]) for q in range(queries)]
                kept = in_registers(builder, places)
                with cgutils.for_range(builder, steps, intp=INDEX) as loop:
                    token = builder.mul(loop.index, INDEX(together))
                    begins = []
                    for n in range(together):
                        here = builder.add(first_token, builder.add(token, INDEX(n)))
                        begins.append(builder.add(builder.load(builder.gep(starts, [here])), column))
                        with builder.if_then(asks):
                            first = builder.add(builder.load(builder.gep(starts, [builder.add(here, ahead)])), column)
                            _fetch_part(builder, keys, first, vectors * lanes)
                    read = [_read_values(builder, values, begins, lanes * v, lanes) for v in range(vectors)]
                    for q in range(queries):
                        at = builder.add(builder.add(weight_at, token), builder.mul(weight_step, INDEX(q)))
                        total = kept[queries * vectors + q]
                        for n in range(together):
                            weight = builder.load(builder.gep(weights, [builder.add(at, INDEX(n))]))
                            builder.store(builder.fadd(builder.load(total), weight), total)
                        at = builder.sdiv(at, INDEX(together))
                        factor = everywhere(builder, builder.load(builder.gep(factors, [at])), lanes)
                        for value, place in zip(read, kept[q * vectors : (q + 1) * vectors], strict=True):
                            add_product(builder, factor, value, place)
                write_back(builder, kept, places)

            each_case(builder, (queries, vectors), product((1, QUERIES), sorted({1, most})), case)
            return context.get_dummy_value()

        at = types.int64
        numbers = (weights, at, at, at, factors, values, keys, starts, at, at, at, at, at, sums, at, totals, at, at)
        return types.void(*numbers), generate

    return add


# sums[q, column : column + vectors · lanes] += sum over t < tokens of factors[q, t] · value of t; totals[q] += sum of
# weights[q, t]. Rows of `values` and `sums` have `size` numbers, those of `weights` `weight_step` (even), and those of
# `factors` as many factors. A word takes two tokens: behind an odd number of them is one more weight, 0. If `ahead` is not 0,
# the memory is asked for the keys of tokens that come so many later.
add_weighted, add_weighted_numbers = _adding(LANES, VECTORS), _adding(1, 1)
