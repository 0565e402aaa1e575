"""Products of rows with weights of 4 or 8 bits, whose groups of inputs have a scale and maybe an offset.

A weight is `scale · (level - 8)` (128 if levels have 8 bits), or `scale · level + offset` if there are offsets. Levels lie in
tiles of `TILE` outputs and blocks of `BLOCK` inputs: `[tiles, blocks, bytes]`. Four neighbouring bytes are neighbouring
inputs of one output, and the next four those of the next output. A byte of 4-bit levels holds two inputs, 16 apart. So one
load of 64 bytes feeds one dot product of 16 outputs, or two. A group is one block or several. Scales and offsets are
`[tiles, groups, TILE]`, in bfloat16, float16 or float32.

Activations are rounded to 8 bits, with a scale for each row and block, as llama.cpp does with its formats Q4_0 and Q8_0. For
each row and output:

    for group of the inputs:
        part = 0
        for block of the group:
            total = sum of (weights' levels - 8) · activations' levels       exact, in integers; no "- 8" with offsets
            part  = part + total · scale of the row's block
        acc = part · scale of the weights + acc
        acc = sum of the row's rounded activations in the group · offset + acc               if there are offsets

Groups are added in order, whatever the number of rows or threads, so that a row's bits depend on nothing else.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels import grouped_rows
from orcinus.runtime.cpu_kernels.dot_products import (
    FLOAT,
    INT8,
    INT16,
    INT32,
    INT64,
    Block,
    Instructions,
    Vectors,
    instructions,
)
from orcinus.runtime.cpu_kernels.elements import MANY, array
from orcinus.runtime.cpu_kernels.grouped_rows import BLOCK, WORDS, empty_rows
from orcinus.runtime.cpu_kernels.vectors import fetch, has
from orcinus.runtime.huge_pages import zeros

TILE = 16
AHEAD = 4096  # bytes of levels that are asked for early: a page, at whose end the processor's own fetching stops
SERIAL = 1 << 19  # multiplications of a product, below which other threads do not help
NO_BIAS = np.empty(0, np.float32)


class PackedLevels(NamedTuple):
    """A weight's tiles, as kernels take them."""

    levels: NDArray[Any]  # [tiles, blocks, BLOCK_BYTES]: uint8 = two 4-bit levels a byte; int8 = one level
    scales: NDArray[Any]  # [tiles, groups, TILE]: bfloat16 as uint16, float16 as int16, or float32
    offsets: NDArray[Any] | None  # the same

    def arguments(self, bias: Tensor | None) -> tuple[Any, ...]:
        """The weight and its bias, as `multiply_groups` takes them."""
        middle = 128 if self.levels.dtype == np.int8 else 8
        times = 1 if self.offsets is not None else -middle  # the weights' middle is subtracted where there are no offsets
        blocks, groups = self.levels.shape[1], self.scales.shape[1]
        each = None if blocks == groups else blocks // groups  # None has its own compiled kernel
        return *self, each, times, torch.get_num_threads(), NO_BIAS if bias is None else array(bias)

    @property
    def nbytes(self) -> int:
        return self.levels.nbytes + self.scales.nbytes + (0 if self.offsets is None else self.offsets.nbytes)


# Products


class _Weight(NamedTuple):
    """A tile: pointers to its arrays."""

    bits: int
    levels: Any
    scales: Any
    offsets: Any | None


class _Rows(NamedTuple):
    """The rounded rows: their sizes, and pointers to their arrays."""

    blocks: Any
    groups: Any
    each: Any | None  # blocks of a group, if there are several
    levels: Any
    totals: Any
    scales: Any
    sums: Any


class _TileProduct:
    """LLVM's instructions for some rows times a tile, for the lanes from `first` on."""

    def __init__(self, builder: Any, use: Instructions, rows: int, first: int, weight: _Weight, row: _Rows) -> None:
        self.vectors, self.use, self.rows, self.first = Vectors(builder, use.lanes), use, rows, first
        self.weight, self.row = weight, row

    def build(self, out: _Output) -> None:
        """The loop over groups; then bias is added and the products are stored."""
        builder, zero = self.vectors.builder, self.vectors.constant(FLOAT, 0)
        sums = [cgutils.alloca_once(builder, zero.type) for _ in range(self.rows)]
        for acc in sums:
            builder.store(zero, acc)
        if self.row.each is None:
            with cgutils.for_range(builder, self.row.blocks) as loop:
                self._add_group(loop.index, self._block(loop.index), sums)
        else:
            self._add_groups(self.row.each, sums)
        begin = builder.add(out.begin, INT64(self.first))
        inside = self.vectors.first_lanes(builder.sub(out.outputs, begin))
        bias = self.vectors.load_floats(
            builder.gep(out.bias, [begin]), self.vectors.first_lanes(builder.sub(out.biases, begin))
        )
        for row, acc in enumerate(sums):
            place = builder.gep(out.rows, [builder.add(builder.mul(out.outputs, INT64(row)), begin)])
            self.vectors.store_floats(builder.fadd(builder.load(acc), bias), place, inside)

    def _add_groups(self, each: Any, sums: list[Any]) -> None:
        """The loop over groups of several blocks."""
        builder, zero = self.vectors.builder, self.vectors.constant(FLOAT, 0)
        parts = [cgutils.alloca_once(builder, zero.type) for _ in sums]
        with cgutils.for_range(builder, self.row.groups) as loop:
            for part in parts:
                builder.store(zero, part)
            begin = builder.mul(loop.index, each)
            with cgutils.for_range(builder, each) as inner:
                for part, added in zip(parts, self._block(builder.add(begin, inner.index)), strict=True):
                    builder.store(builder.fadd(builder.load(part), added), part)
            self._add_group(loop.index, [builder.load(part) for part in parts], sums)

    def _block(self, block: Any) -> Iterator[Any]:
        """Each row's product with a block's levels."""
        vectors, builder = self.vectors, self.vectors.builder
        first = builder.mul(block, INT64(WORDS))

        def word(unit: Any, row: int) -> Any:
            place = builder.add(builder.mul(builder.add(first, unit), INT64(self.rows)), INT64(row))
            return vectors.splat(builder.load(builder.gep(self.row.levels, [place]), align=4))

        places = [builder.add(builder.mul(self.row.blocks, INT64(row)), block) for row in range(self.rows)]
        starts = [self._start(place) for place in places]
        levels = Block(self.weight.bits, partial(self._levels, block), word)
        for place, dots in zip(places, self.use.add_dots(vectors, starts, levels), strict=True):
            scale = vectors.splat(builder.load(builder.gep(self.row.scales, [place])))
            yield builder.fmul(builder.sitofp(dots, vectors.of(FLOAT)), scale)

    def _start(self, place: Any) -> Any:
        """What a block's dot products lack: the weights' middle, which is subtracted from levels with offsets only."""
        vectors, signed = self.vectors, self.weight.bits == 8 and self.use.signed
        if signed == (self.weight.offsets is None):
            return vectors.constant(INT32, 0)
        total = vectors.builder.load(vectors.builder.gep(self.row.totals, [place]))
        return vectors.splat(vectors.builder.shl(total, INT32(7)) if signed else total)

    def _levels(self, block: Any, number: Any) -> Any:
        """One of a block's loads of levels: four inputs a lane, or eight of 4 bits."""
        builder = self.vectors.builder
        begin = builder.mul(builder.add(builder.mul(block, INT64(self.weight.bits)), number), INT64(64))
        place = builder.gep(self.weight.levels, [builder.add(begin, INT64(4 * self.first))])
        fetch(builder, builder.gep(place, [INT64(AHEAD)]))
        return self.vectors.load(place, INT32)

    def _add_group(self, group: Any, parts: Iterable[Any], sums: list[Any]) -> None:
        """All rows' sums with one more group, whose scale the parts lack."""
        vectors, builder = self.vectors, self.vectors.builder
        place = builder.add(builder.mul(group, INT64(TILE)), INT64(self.first))
        scale = vectors.load_floats(builder.gep(self.weight.scales, [place]))
        offset = vectors.load_floats(builder.gep(self.weight.offsets, [place])) if self.weight.offsets is not None else None
        for row, (part, acc) in enumerate(zip(parts, sums, strict=True)):
            found = vectors.multiply_add(part, scale, builder.load(acc))
            if offset is not None:
                place = builder.add(builder.mul(self.row.groups, INT64(row)), group)
                total = vectors.splat(builder.load(builder.gep(self.row.sums, [place])))
                found = vectors.multiply_add(total, offset, found)
            builder.store(found, acc)


class _Output(NamedTuple):
    """Where the products go."""

    begin: Any  # the tile's first output
    outputs: Any  # all outputs, also of other tiles
    rows: Any  # a pointer to the first of the rows
    biases: Any  # as many as outputs, or 0
    bias: Any


# The elements of arrays, as LLVM knows them.
ELEMENTS = {types.uint8: INT8, types.int8: INT8, types.uint16: INT16, types.int16: ir.HalfType(), types.int32: INT32}


@cache
def _tile_product(rows: int) -> Any:
    """A function of kernels: `out` of so many rows, from `row` on, and a tile's outputs."""

    @intrinsic
    def product(_, levels, scales, offsets, row_levels, totals, row_scales, sums, each, bias, out, tile, row):
        def generate(context, builder, signature, arguments):
            def array_of(number):
                kind = signature.args[number]
                return None if kind == types.none else context.make_array(kind)(context, builder, arguments[number])

            def size(number, dimension):
                return cgutils.unpack_tuple(builder, array_of(number).shape)[dimension]

            def pointer(number, index):
                """Where an array's part for an index of its first dimension begins."""
                if array_of(number) is None:
                    return None
                for dimension in range(1, signature.args[number].ndim):
                    index = builder.mul(index, size(number, dimension))
                element = ELEMENTS.get(signature.args[number].dtype, FLOAT)
                return builder.gep(builder.bitcast(array_of(number).data, element.as_pointer()), [index])

            tile, row = arguments[10:]
            bits, several = 8 if levels.dtype == types.int8 else 4, None if each == types.none else arguments[7]
            weight = _Weight(bits, *(pointer(number, tile) for number in range(3)))
            quantized = _Rows(size(0, 1), size(1, 1), several, *(pointer(number, row) for number in range(3, 7)))
            begin, nothing = builder.mul(tile, INT64(TILE)), INT64(0)
            target = _Output(begin, size(9, 1), pointer(9, row), size(8, 0), pointer(8, nothing))
            use = instructions()
            for first in range(0, TILE, use.lanes):
                _TileProduct(builder, use, rows, first, weight, quantized).build(target)
            return context.get_dummy_value()

        given = levels, scales, offsets, row_levels, totals, row_scales, sums, each, bias, out
        return types.void(*given, types.int64, types.int64), generate

    return product


_one, _two, _four, _eight = _tile_product(1), _tile_product(2), _tile_product(4), _tile_product(8)


@exact
def _multiply_tiles(first, last, levels, scales, offsets, row_levels, totals, row_scales, sums, each, bias, out):
    """All rows times some tiles, one tile after the other: the rows after the first ones find it in the cache.

    It is a loop, because Numba counts the references of every array at each call.
    """
    for tile in range(first, last):
        row, rows = 0, len(out)
        while row < rows:
            left = rows - row
            if left >= 8:
                _eight(levels, scales, offsets, row_levels, totals, row_scales, sums, each, bias, out, tile, row)
                row += 8
            elif left >= 4:
                _four(levels, scales, offsets, row_levels, totals, row_scales, sums, each, bias, out, tile, row)
                row += 4
            elif left >= 2:
                _two(levels, scales, offsets, row_levels, totals, row_scales, sums, each, bias, out, tile, row)
                row += 2
            else:
                _one(levels, scales, offsets, row_levels, totals, row_scales, sums, each, bias, out, tile, row)
                row += 1


multiply_tiles, quantize_row = external(_multiply_tiles), external(grouped_rows.quantize_row)


@exact
def _multiply(x, levels, scales, offsets, each, times, bias, out):
    """x · weightᵀ + bias, on this thread."""
    quantized = empty_rows(len(x), levels.shape[1], 0 if offsets is None else scales.shape[1])
    for row in range(len(x)):
        quantize_row(x, row, times, *quantized)
    multiply_tiles(0, len(levels), levels, scales, offsets, *quantized, each, bias, out)


@exact(parallel=True)
def _multiply_on_all_threads(x, levels, scales, offsets, each, times, bias, out, parts):
    """x · weightᵀ + bias: threads get equal parts of the tiles, and divide many rows while they are rounded."""
    quantized = empty_rows(len(x), levels.shape[1], 0 if offsets is None else scales.shape[1])
    if x.size >= MANY:
        for row in numba.prange(len(x)):
            quantize_row(x, np.int64(row), times, *quantized)
    else:
        for row in range(len(x)):
            quantize_row(x, row, times, *quantized)
    tiles = len(levels)
    for number in numba.prange(parts):
        first, last = np.int64(number) * tiles // parts, (np.int64(number) + 1) * tiles // parts
        multiply_tiles(first, last, levels, scales, offsets, *quantized, each, bias, out)


@exact
def multiply_groups(x, levels, scales, offsets, each, times, threads, bias, out):
    """`out` `[rows, outputs]` = x `[rows, inputs]` · weightᵀ + bias, rounded once; see `PackedLevels.arguments`."""
    if x.size * out.shape[1] < SERIAL:
        _multiply(x, levels, scales, offsets, each, times, bias, out)
    else:
        _multiply_on_all_threads(x, levels, scales, offsets, each, times, bias, out, threads)


multiply_groups = keep_compiled(multiply_groups)


# Packing


def pack_levels(levels: Tensor, scales: Tensor, offsets: Tensor | None, group: int, bits: int) -> PackedLevels:
    """A weight's tiles: levels `[outputs, inputs]` in uint8, and of each group `[outputs, groups]` scale and offset.

    What fills the last tile and block up is never read.
    """
    outputs, inputs = levels.shape
    tiles, groups = packed_size(outputs, inputs, group)
    blocks = groups * group // BLOCK
    padded = torch.full((tiles * TILE, blocks * BLOCK), 1 << bits - 1, dtype=torch.uint8)
    padded[:outputs, :inputs] = levels
    loads = padded.view(tiles, TILE, blocks, 8, 4).permute(0, 2, 3, 1, 4)  # [tiles, blocks, 8, TILE, 4]
    stored = zeros((tiles, blocks, bits * TILE * BLOCK // 8), torch.int8 if bits == 8 else torch.uint8)
    if bits == 8:
        stored.view(torch.uint8).view(tiles, blocks, 8, TILE, 4).copy_(loads)
    else:
        half = stored.view(tiles, blocks, 4, TILE, 4)
        half.copy_(loads[:, :, 4:]).bitwise_left_shift_(4).bitwise_or_(loads[:, :, :4])
    return PackedLevels(stored.numpy(), _pack_groups(scales, tiles), None if offsets is None else _pack_groups(offsets, tiles))


def _pack_groups(numbers: Tensor, tiles: int) -> NDArray[Any]:
    """Scales or offsets `[outputs, groups]` by tiles."""
    padded = torch.zeros(tiles * TILE, numbers.shape[1], dtype=numbers.dtype)
    padded[: len(numbers)] = numbers
    stored = zeros((tiles, numbers.shape[1], TILE), numbers.dtype)
    stored.copy_(padded.view(tiles, TILE, -1).transpose(1, 2))
    return stored.view(torch.int16).numpy() if stored.dtype is torch.float16 else array(stored)


def packed_size(outputs: int, inputs: int, group: int) -> tuple[int, int]:
    """Tiles and groups of a weight; the last ones are filled up."""
    return -(-outputs // TILE), -(-inputs // group)


def reads_float16() -> bool:
    """Whether kernels are compiled for a processor that converts float16."""
    return has("f16c") or has("avx512f")
