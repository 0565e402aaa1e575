"""Products of rows with 4-bit weights.

Weights lie in tiles of `TILE` outputs and groups of `GROUP` inputs: `[tiles, groups, 256]` bytes. A byte holds two inputs of
an output, 16 apart, as numbers 0 to 15 around 8. Four neighbouring bytes are neighbouring inputs of one output, and the next
four those of the next output. So one load of 64 bytes feeds two dot products of 16 outputs. Scales are bfloat16,
`[tiles, groups, TILE]`.

Activations are rounded to 8 bits, with a scale for each row and group, as llama.cpp does with its formats Q4_0 and Q8_0. For
each row and output:

    for group of the inputs:
        total = sum of weights · levels - 8 · sum of levels          exact, in integers
        acc   = total · scale of the row's group · scale of the weights + acc

Groups are added in order, whatever the number of rows or threads, so that a row's bits depend on nothing else.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.dot_products import FLOAT, INT8, INT16, INT32, INT64, Instructions, Vectors, instructions
from orcinus.runtime.cpu_kernels.elements import F32, FAST, MANY, array, load, rounded

TILE, GROUP, ZERO = 16, 32, 8
GROUP_BYTES = TILE * GROUP // 2
MOST_ROWS = 8  # that share the unpacked weights of a tile; their sums are in registers
SERIAL = 1 << 19  # multiplications of a product, below which other threads do not help
LEVELS = F32(127)
ROUND = F32(3 * 2**22)  # added to a small number, it leaves the nearest integer in the lowest bits
WITHOUT_SIGN = np.int32(0x7FFFFFFF)
LARGEST = F32(np.finfo(np.float32).max).view(np.int32)
SMALLEST = F32(1e-36).view(np.int32)  # below, a group counts as zeros, because 127 / x would be infinite
STEPS = (F32(-7), F32(-7.5), F32(-8), F32(-8.5), F32(-9))  # levels that the largest weight of a group is tried at


# Weights


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _level(value):
    """The nearest of the numbers -8 to 7."""
    return min(max(np.floor(value + F32(0.5)), F32(-8)), F32(7))


@numba.njit(fastmath=FAST, error_model="numpy")
def _best_scale(values, like):
    """The scale of a group with the smallest squared error, as an element of the array `like`.

    Each of `STEPS` gives levels; the scale that suits them best (least squares) is rounded to 16 bits and tried. The values
    are left in units of the largest one.
    """
    low, high = F32(0), F32(0)
    for i in range(GROUP):
        low, high = min(low, values[i]), max(high, values[i])
    largest = high if high > -low else low
    for i in range(GROUP):
        values[i] /= largest
    best, least = rounded(F32(0), like), F32(1e30)
    for step in STEPS:
        products, squares = F32(0), F32(0)
        for i in range(GROUP):
            level = _level(values[i] * step)
            products += level * values[i]
            squares += level * level
        found = rounded(products / squares * largest, like)
        scale, error = load(found) / largest, F32(0)
        inverse = F32(1) / scale
        for i in range(GROUP):
            rest = values[i] - _level(values[i] * inverse) * scale
            error += rest * rest
        if error < least:
            best, least = found, error
    return best, largest


@numba.njit(error_model="numpy")
def _pack_group(values, tile, group, lane, nibbles, scales):
    """A group of an output, into its lane of a tile."""
    most = np.int32(0)  # the bits of the largest absolute value: NaN counts as the largest
    for i in range(GROUP):
        most = np.int32(max(most, F32(values[i]).view(np.int32) & WITHOUT_SIGN))
    inverse = F32(0)
    if SMALLEST <= most <= LARGEST:
        scales[tile, group, lane], largest = _best_scale(values, scales)
        inverse = largest / load(scales[tile, group, lane])
    else:
        values[:] = F32(0)
        scales[tile, group, lane] = rounded(F32(0) if most < SMALLEST else F32(np.nan), scales)
    for i in range(GROUP // 2):
        low = np.uint8(_level(values[i] * inverse) + F32(ZERO))
        high = np.uint8(_level(values[i + GROUP // 2] * inverse) + F32(ZERO))
        nibbles[tile, group, i // 4 * 64 + lane * 4 + i % 4] = low | high << np.uint8(4)


@numba.njit(error_model="numpy")
def _pack_output(weight, output, nibbles, scales):
    inputs, values = weight.shape[1], np.empty(GROUP, np.float32)
    for group in range(nibbles.shape[1]):
        begin = group * GROUP
        for i in range(GROUP):
            values[i] = load(weight[output, begin + i]) if begin + i < inputs else F32(0)
        _pack_group(values, output // TILE, group, output % TILE, nibbles, scales)


@numba.njit(parallel=True, error_model="numpy")
def _pack(weight, nibbles, scales):
    for output in numba.prange(len(weight)):
        _pack_output(weight, np.int64(output), nibbles, scales)


# Rows


@numba.njit(error_model="numpy", forceinline=True)
def _quantize_group(x, row, group, width, levels, offsets, scales):
    """A row's group as 8-bit numbers, with its scale and what the weights' zero adds to its sums."""
    begin, most = group * GROUP, np.int32(0)  # the bits of the largest absolute value: NaN counts as the largest
    for i in range(width):
        most = np.int32(max(most, F32(load(x[row, begin + i])).view(np.int32) & WITHOUT_SIGN))
    usable = SMALLEST <= most <= LARGEST
    largest = np.int32(most).view(np.float32)
    scales[row, group] = largest / LEVELS if usable else F32(0) if most < SMALLEST else np.float32(np.nan)
    inverse = LEVELS / largest if usable else F32(0)
    total = np.int32(0)
    for i in range(width):
        level = np.int8(F32((load(x[row, begin + i]) if usable else F32(0)) * inverse + ROUND).view(np.int32) & np.int32(255))
        levels[row, begin + i] = level
        total += np.int32(level)
    for i in range(width, GROUP):
        levels[row, begin + i] = 0
    offsets[row, group] = np.int32(-ZERO) * total


@numba.njit(error_model="numpy")
def _quantize_row(x, row, levels, offsets, scales):
    whole = x.shape[1] // GROUP
    for group in range(whole):
        _quantize_group(x, row, group, GROUP, levels, offsets, scales)
    if whole < levels.shape[1] // GROUP:
        _quantize_group(x, row, whole, x.shape[1] - whole * GROUP, levels, offsets, scales)


# Products


class _TileProduct:
    """LLVM's instructions for some rows times a tile, for the lanes from `first` on."""

    def __init__(self, builder: Any, use: Instructions, rows: int, groups: Any, pointers: Any, first: int) -> None:
        self.vectors, self.use, self.rows, self.groups, self.first = Vectors(builder, use.lanes), use, rows, groups, first
        self.nibbles, self.scales, self.levels, self.offsets, self.row_scales = pointers

    def build(self, out: Any) -> None:
        """The loop over groups; then the sums `[rows, TILE]` are stored."""
        builder, zero = self.vectors.builder, self.vectors.constant(FLOAT, 0)
        sums = [cgutils.alloca_once(builder, zero.type) for _ in range(self.rows)]
        for acc in sums:
            builder.store(zero, acc)
        with cgutils.for_range(builder, self.groups) as loop:
            weights, scale = self._weights(loop.index)
            for row, acc in enumerate(sums):
                builder.store(self._add_group(loop.index, row, weights, scale, builder.load(acc)), acc)
        for row, acc in enumerate(sums):
            place = builder.gep(out, [INT64(row * TILE + self.first)])
            builder.store(builder.load(acc), builder.bitcast(place, zero.type.as_pointer()), align=4)

    def _weights(self, group: Any) -> tuple[list[Any], Any]:
        """A group's weights, four inputs each, and its scales."""
        vectors, builder = self.vectors, self.vectors.builder
        begin = builder.add(builder.mul(group, INT64(GROUP_BYTES)), INT64(4 * self.first))
        mask, four = vectors.constant(INT32, 0x0F0F0F0F), vectors.constant(INT32, 4)
        loaded = [vectors.load(builder.gep(self.nibbles, [builder.add(begin, INT64(64 * i))]), INT32) for i in range(4)]
        low, high = [builder.and_(each, mask) for each in loaded], [builder.lshr(each, four) for each in loaded]
        place = builder.add(builder.mul(group, INT64(TILE)), INT64(self.first))
        bits = builder.zext(vectors.load(builder.gep(self.scales, [place]), INT16), vectors.of(INT32))
        scale = builder.bitcast(builder.shl(bits, vectors.constant(INT32, 16)), vectors.of(FLOAT))
        return low + [builder.and_(each, mask) for each in high], scale

    def _add_group(self, group: Any, row: int, weights: list[Any], scale: Any, acc: Any) -> Any:
        """A row's sums with one more group."""
        vectors, builder = self.vectors, self.vectors.builder
        place = builder.add(builder.mul(self.groups, INT64(row)), group)
        begin = builder.mul(place, INT64(GROUP))
        pairs = [(each, builder.gep(self.levels, [builder.add(begin, INT64(4 * i))])) for i, each in enumerate(weights)]
        start = vectors.splat(builder.load(builder.gep(self.offsets, [place])))
        total = builder.sitofp(self.use.add_dots(vectors, start, pairs), scale.type)
        row_scale = vectors.splat(builder.load(builder.gep(self.row_scales, [place])))
        return vectors.multiply_add(builder.fmul(total, row_scale), scale, acc)


@cache
def _tile_product(rows: int) -> Any:
    """A function of kernels: the sums of so many rows, from `row` on, times a tile, into `out` `[rows, TILE]`."""

    @intrinsic
    def product(_, nibbles, scales, levels, offsets, row_scales, tile, row, out):
        def generate(context, builder, signature, arguments):
            arrays = [
                context.make_array(kind)(context, builder, each)
                for kind, each in zip(signature.args[:5], arguments[:5], strict=True)
            ]
            groups = cgutils.unpack_tuple(builder, arrays[3].shape)[1]
            tile_at, row_at = (builder.mul(each, groups) for each in arguments[5:7])
            begins = (
                (INT8, GROUP_BYTES, tile_at),
                (INT16, TILE, tile_at),
                (INT8, GROUP, row_at),
                (INT32, 1, row_at),
                (FLOAT, 1, row_at),
            )
            pointers = [
                builder.gep(builder.bitcast(each.data, kind.as_pointer()), [builder.mul(begin, INT64(size))])
                for each, (kind, size, begin) in zip(arrays, begins, strict=True)
            ]
            target = context.make_array(signature.args[7])(context, builder, arguments[7]).data
            use = instructions()
            for first in range(0, TILE, use.lanes):
                _TileProduct(builder, use, rows, groups, pointers, first).build(target)
            return context.get_dummy_value()

        int64 = types.int64
        return types.void(nibbles, scales, levels, offsets, row_scales, int64, int64, out), generate

    return product


_one, _two, _four, _eight = _tile_product(1), _tile_product(2), _tile_product(4), _tile_product(8)


@numba.njit(error_model="numpy")
def _multiply_tile(tile, nibbles, scales, levels, offsets, row_scales, bias, out):
    """All rows times a tile: the rows after the first ones find it in the cache."""
    sums = np.empty((MOST_ROWS, TILE), np.float32)
    row, rows, begin = 0, len(out), tile * TILE
    width = min(TILE, out.shape[1] - begin)
    while row < rows:
        left = rows - row
        if left >= 8:
            count = 8
            _eight(nibbles, scales, levels, offsets, row_scales, tile, row, sums)
        elif left >= 4:
            count = 4
            _four(nibbles, scales, levels, offsets, row_scales, tile, row, sums)
        elif left >= 2:
            count = 2
            _two(nibbles, scales, levels, offsets, row_scales, tile, row, sums)
        else:
            count = 1
            _one(nibbles, scales, levels, offsets, row_scales, tile, row, sums)
        for r in range(count):
            for o in range(width):
                added = load(bias[begin + o]) if len(bias) else F32(0)
                out[row + r, begin + o] = rounded(sums[r, o] + added, out)
        row += count


@numba.njit(error_model="numpy")
def _multiply(x, nibbles, scales, bias, out):
    """x · weightᵀ + bias, on this thread."""
    groups = nibbles.shape[1]
    levels = np.empty((len(x), groups * GROUP), np.int8)
    offsets, row_scales = np.empty((len(x), groups), np.int32), np.empty((len(x), groups), np.float32)
    for row in range(len(x)):
        _quantize_row(x, row, levels, offsets, row_scales)
    for tile in range(len(nibbles)):
        _multiply_tile(tile, nibbles, scales, levels, offsets, row_scales, bias, out)


@numba.njit(parallel=True, error_model="numpy")
def _multiply_on_all_threads(x, nibbles, scales, bias, out):
    """x · weightᵀ + bias: threads divide the tiles, and many rows while they are rounded."""
    groups = nibbles.shape[1]
    levels = np.empty((len(x), groups * GROUP), np.int8)
    offsets, row_scales = np.empty((len(x), groups), np.int32), np.empty((len(x), groups), np.float32)
    if x.size >= MANY:
        for row in numba.prange(len(x)):
            _quantize_row(x, np.int64(row), levels, offsets, row_scales)
    else:
        for row in range(len(x)):
            _quantize_row(x, row, levels, offsets, row_scales)
    for tile in numba.prange(len(nibbles)):
        _multiply_tile(np.int64(tile), nibbles, scales, levels, offsets, row_scales, bias, out)


_pack, _multiply, _multiply_on_all_threads = map(keep_compiled, (_pack, _multiply, _multiply_on_all_threads))


class PackedInt4(NamedTuple):
    """A weight's tiles, as kernels take them."""

    nibbles: NDArray[np.uint8]  # [tiles, groups, GROUP_BYTES]
    scales: NDArray[np.uint16]  # [tiles, groups, TILE], bfloat16


def pack_int4(weight: Tensor) -> PackedInt4:
    """A weight `[outputs, inputs]` as 4-bit numbers, in float32 or bfloat16 before."""
    tiles, groups = packed_size(*weight.shape)
    nibbles = torch.zeros(tiles, groups, GROUP_BYTES, dtype=torch.uint8)  # torch aligns it to whole vectors, NumPy does not
    scales = torch.zeros(tiles, groups, TILE, dtype=torch.bfloat16)
    packed = PackedInt4(nibbles.numpy(), array(scales))
    _pack(array(weight), *packed)
    return packed


def packed_size(outputs: int, inputs: int) -> tuple[int, int]:
    """Tiles and groups of a weight; the last ones are filled up with zeros."""
    return -(-outputs // TILE), -(-inputs // GROUP)


def multiply_int4(x: Tensor, packed: PackedInt4, bias: Tensor | None, outputs: int) -> Tensor:
    """x · weightᵀ + bias, `[rows, inputs]` -> `[rows, outputs]`, rounded once to the dtype of x."""
    out = torch.empty(len(x), outputs, dtype=x.dtype)
    target = array(out)
    added = np.empty(0, target.dtype) if bias is None else array(bias)
    kernel = _multiply if x.numel() * outputs < SERIAL else _multiply_on_all_threads
    kernel(array(x), *packed, added, target)
    return out
