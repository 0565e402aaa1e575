"""Products of many rows with a weight in panels: the rows are packed, too (Goto and van de Geijn, 2008, section 4.2.3).

`multiply_panels` reads each of the rows that it multiplies at a time from a place of its own. A processor reads ahead only in
places that it has seen before, so each step begins by waiting. Rows that many panels need are first copied into tiles:

    tiles [T / ROWS, K, ROWS]      the numbers of `ROWS` rows side by side, in float32

A row's sums are those of `multiply_panels`, in the same order: its bits do not depend on which of both computed it. Arrays are
copied by loops: to compile `a[:n] = b`, Numba compiles its error message, too, which takes longer than the rest.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels.elements import read_vector
from orcinus.runtime.cpu_kernels.panel_product import PANEL, VECTORS, most_rows, multiply_panels
from orcinus.runtime.cpu_kernels.vectors import (
    HALF,
    INDEX,
    LANES,
    VECTOR,
    WORD,
    ZEROS,
    everywhere,
    fma,
    not_unrolled,
    rounded_to_bfloat16,
    transposed,
)  # fmt: skip

ROWS = most_rows(32)
AT_ONCE = 84 * ROWS  # rows: what the tiles of one call take in memory is bounded
UNROLLED = 4  # inputs of a step; more than one, because there is little else to do in it
ENOUGH = 48  # rows, for which packing pays
PACKS = LANES == 8  # with AVX-512 half as many panels read each row, and `multiply_panels` computes at the processor's rate


@intrinsic
def _pack_tile(_, x, first, tiles, tile):
    """`tiles[tile]` = rows [first, first + ROWS) of x. Columns are stored as whole vectors, in order: each covers the last
    one's surplus lanes, and a tile has room for those of its last column.
    """

    def generate(context, builder, signature, arguments):
        source, target = (context.make_array(signature.args[at])(context, builder, arguments[at]) for at in (0, 2))
        size, first = builder.extract_value(source.shape, 1), arguments[1]
        begin = builder.gep(target.data, [builder.mul(arguments[3], builder.extract_value(target.shape, 1))])
        starts = [builder.mul(builder.add(first, INDEX(row)), size) for row in range(ROWS)]
        whole = builder.and_(size, INDEX(-LANES))
        with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(LANES), intp=INDEX) as (k, _):
            rows = [read_vector(builder, source.data, builder.add(start, k)) for start in starts]
            for number, column in enumerate(transposed(builder, rows + [ZEROS] * (LANES - ROWS))):
                place = builder.gep(begin, [builder.mul(builder.add(k, INDEX(number)), INDEX(ROWS))])
                builder.store(column, builder.bitcast(place, VECTOR.as_pointer()), align=4)
        with cgutils.for_range_slice(builder, whole, size, INDEX(1), intp=INDEX) as (k, _):
            for row, start in enumerate(starts):
                number = builder.extract_element(read_vector(builder, source.data, builder.add(start, k), 1), WORD(0))
                builder.store(number, builder.gep(begin, [builder.add(builder.mul(k, INDEX(ROWS)), INDEX(row))]))
        return context.get_dummy_value()

    return types.void(x, types.intp, tiles, types.intp), generate


def _step(builder: ir.IRBuilder, x: ir.Value, panel: ir.Value, k: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
    """The sums after input k."""
    places = [builder.gep(panel, [builder.add(builder.mul(k, INDEX(VECTORS)), INDEX(v))]) for v in range(VECTORS)]
    weights, following = [builder.load(place, align=4 * LANES) for place in places], []
    for row, mine in enumerate(sums):
        number = builder.load(builder.gep(x, [builder.add(builder.mul(k, INDEX(ROWS)), INDEX(row))]), align=4)
        x_row = everywhere(builder, number)
        following.append([fma(builder, x_row, weight, each) for weight, each in zip(weights, mine, strict=True)])
    return following


def _loop(
    builder: ir.IRBuilder, x: ir.Value, panel: ir.Value, begin: ir.Value, end: ir.Value, step: int, sums: list[list[ir.Value]]
) -> list[list[ir.Value]]:
    """The sums after inputs [begin, end), so many at a time."""
    before, body, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sums")
    builder.cbranch(builder.icmp_signed("<", begin, end), body, after)
    builder.position_at_end(body)
    k = builder.phi(INDEX)
    inside = [[builder.phi(VECTOR) for _ in mine] for mine in sums]
    following = inside
    for number in range(step):
        following = _step(builder, x, panel, builder.add(k, INDEX(number)), following)
    more = builder.add(k, INDEX(step))
    k.add_incoming(begin, before)
    k.add_incoming(more, body)
    not_unrolled(builder.cbranch(builder.icmp_signed("<", more, end), body, after), builder.module)
    builder.position_at_end(after)
    found = [[builder.phi(VECTOR) for _ in mine] for mine in sums]
    for phis, firsts, lasts, outs in zip(inside, sums, following, found, strict=True):
        for phi, one, last, out in zip(phis, firsts, lasts, outs, strict=True):
            phi.add_incoming(one, before)
            phi.add_incoming(last, body)
            out.add_incoming(one, before)
            out.add_incoming(last, body)
    return found


@intrinsic
def _tile_times_panel(_, tiles, tile, panel, bias, out, row, column, count):
    """`out[row : row + count, column : column + PANEL]` = a tile's first rows · a panel `[K, PANEL]` + its bias."""
    words = out.dtype == types.uint16

    def generate(context, builder, signature, arguments):
        x, weights, added, target = (
            context.make_array(signature.args[at])(context, builder, arguments[at]) for at in (0, 2, 3, 4)
        )
        _, tile, _, _, _, row, column, count = arguments
        rows = builder.gep(x.data, [builder.mul(tile, builder.extract_value(x.shape, 1))])
        panel, biases = (builder.bitcast(each.data, VECTOR.as_pointer()) for each in (weights, added))
        size = builder.extract_value(weights.shape, 0)
        whole = builder.and_(size, INDEX(-UNROLLED))
        sums = _loop(builder, rows, panel, INDEX(0), whole, UNROLLED, [[ZEROS] * VECTORS for _ in range(ROWS)])
        sums = _loop(builder, rows, panel, whole, size, 1, sums)
        for at, mine in enumerate(sums):
            with builder.if_then(builder.icmp_signed("<", INDEX(at), count), likely=True):
                first = builder.mul(builder.add(row, INDEX(at)), builder.extract_value(target.shape, 1))
                place = builder.gep(target.data, [builder.add(first, column)])
                to = builder.bitcast(place, (ir.VectorType(HALF, LANES) if words else VECTOR).as_pointer())
                for v, each in enumerate(mine):
                    total = builder.fadd(each, builder.load(builder.gep(biases, [INDEX(v)]), align=4))
                    builder.store(rounded_to_bfloat16(builder, total) if words else total, builder.gep(to, [INDEX(v)]), align=2)
        return context.get_dummy_value()

    index = types.intp
    return types.none(tiles, index, panel, bias, out, index, index, index), generate


@exact
def _pack(x, number, tiles):
    """Rows as a tile; missing ones are zeros."""
    first, size = number * ROWS, x.shape[1]
    if first + ROWS <= len(x):
        _pack_tile(x, first, tiles, number)
    else:
        some = np.zeros((ROWS, size), x.dtype)
        for row in range(len(x) - first):
            for k in range(size):
                some[row, k] = x[first + row, k]
        _pack_tile(some, 0, tiles, number)


@exact
def _widen(panel):
    """Pairs of bfloat16 `[K / 2, PANEL]` as float32 `[K, PANEL]`."""
    wide = np.empty((2 * len(panel), PANEL), np.float32)
    for pair in range(len(panel)):
        words, low, high = panel[pair], wide[2 * pair], wide[2 * pair + 1]
        for i in range(PANEL):
            low[i] = np.int32(words[i] << np.int32(16)).view(np.float32)
            high[i] = np.int32(words[i] & np.int32(-65536)).view(np.float32)
    return wide


def _as_floats(panel):
    """A panel in float32 `[K, PANEL]`, for kernels."""
    raise NotImplementedError("it is compiled")


@overload(_as_floats)
def _panel_as_floats(panel):
    return (lambda panel: panel) if panel.dtype == types.float32 else (lambda panel: _widen(panel))


@exact
def _panel(tiles, panels, number, bias, out):
    """All rows times a panel."""
    column, rows = number * PANEL, len(out)
    weights, added = _as_floats(panels[number]), bias[column : column + PANEL]
    whole = column + PANEL <= out.shape[1]
    some = np.empty((0 if whole else ROWS, PANEL), out.dtype)
    for tile in range(len(tiles)):
        row = tile * ROWS
        count = min(ROWS, rows - row)
        if whole:
            _tile_times_panel(tiles, tile, weights, added, out, row, column, count)
        else:
            _tile_times_panel(tiles, tile, weights, added, some, 0, 0, count)
            for at in range(count):
                for i in range(out.shape[1] - column):
                    out[row + at, column + i] = some[at, i]


@exact(parallel=True)
def _multiply(x, tiles, panels, bias, out):
    for number in numba.prange(len(tiles)):
        _pack(x, np.int64(number), tiles)
    for number in numba.prange(len(panels)):
        _panel(tiles, panels, np.int64(number), bias, out)


multiply_tiles, multiply_few = external(_multiply), external(multiply_panels)


@exact
def _multiply_rows(x, panels, bias, out):
    """`multiply_panels`, the faster way for as many rows as there are; arguments and bits are the same."""
    if len(x) < ENOUGH:
        multiply_few(x, panels, bias, out)
        return
    calls = (len(x) + AT_ONCE - 1) // AT_ONCE
    for call in range(calls):
        first, last = call * len(x) // calls, (call + 1) * len(x) // calls
        tiles = np.empty(((last - first + ROWS - 1) // ROWS, x.shape[1] * ROWS + LANES - ROWS), np.float32)
        multiply_tiles(x[first:last], tiles, panels, bias, out[first:last])


multiply_rows = keep_compiled(_multiply_rows) if PACKS else multiply_panels
