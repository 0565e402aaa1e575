"""Dot products of weights of 4 or 8 bits and 8-bit activations, with the best instructions that Numba compiles for.

Weights are unsigned numbers, activations signed ones up to 127. A lane is one output: it adds the products of four
neighbouring inputs at a time. All sums are exact, so every set of instructions gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from orcinus.runtime.cpu_kernels.vectors import has, not_unrolled

INT8, INT16, INT32, INT64, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of 32-bit lanes in LLVM's instructions (llvmlite's builder knows scalars only)."""

    builder: Any
    lanes: int

    def of(self, element: Any, count: int | None = None) -> Any:
        """The type of a vector; by default one element a lane."""
        return ir.VectorType(element, count or self.lanes)

    def constant(self, element: Any, number: float, count: int | None = None) -> Any:
        """A vector of equal numbers."""
        kind = self.of(element, count)
        return ir.Constant(kind, [number] * kind.count)

    def splat(self, value: Any) -> Any:
        """A number in every lane."""
        kind = self.of(value.type)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT32(0))
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), self.constant(INT32, 0))

    def load(self, pointer: Any, element: Any, align: int = 4) -> Any:
        """A vector from memory."""
        place = self.builder.bitcast(pointer, self.of(element).as_pointer())
        return self.builder.load(place, align=align)

    def load_floats(self, pointer: Any, mask: Any = None) -> Any:
        """A vector of float32 from memory, with zeros where a mask is off; 16-bit integers are bfloat16."""
        kind = pointer.type.pointee
        found = self.load(pointer, kind, align=4 if kind == FLOAT else 2) if mask is None else self._masked_load(pointer, mask)
        if kind == INT16:
            bits = self.builder.zext(found, self.of(INT32))
            return self.builder.bitcast(self.builder.shl(bits, self.constant(INT32, 16)), self.of(FLOAT))
        return found if kind == FLOAT else self.builder.fpext(found, self.of(FLOAT))

    def _masked_load(self, pointer: Any, mask: Any) -> Any:
        kind = self.of(pointer.type.pointee)
        place, name = self.builder.bitcast(pointer, kind.as_pointer()), self._masked("load", pointer.type.pointee)
        return self.call(name, kind, place, INT32(1), mask, ir.Constant(kind, None))

    def store_floats(self, numbers: Any, pointer: Any, mask: Any) -> None:
        """Store float32 where a mask is on; as bfloat16, rounded to nearest and ties to even, if they are 16-bit integers."""
        element = pointer.type.pointee
        if element == INT16:
            bits, half = self.builder.bitcast(numbers, self.of(INT32)), self.constant(INT32, 16)
            odd = self.builder.and_(self.builder.lshr(bits, half), self.constant(INT32, 1))
            up = self.builder.add(bits, self.builder.add(odd, self.constant(INT32, 0x7FFF)))
            numbers = self.builder.trunc(self.builder.lshr(up, half), self.of(INT16))
        place = self.builder.bitcast(pointer, numbers.type.as_pointer())
        self.call(self._masked("store", element), ir.VoidType(), numbers, place, INT32(1), mask)

    def _masked(self, what: str, element: Any) -> str:
        return f"llvm.masked.{what}.v{self.lanes}{'f32' if element == FLOAT else 'i16'}.p0"

    def first_lanes(self, count: Any) -> Any:
        """A mask that is on for so many lanes, maybe none or all."""
        numbers = ir.Constant(self.of(INT64), [*range(self.lanes)])
        return self.builder.icmp_signed("<", numbers, self.splat(count))

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """The result of one of LLVM's intrinsic functions."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a · b + c, rounded once."""
        return self.call(f"llvm.fma.v{self.lanes}f32", a.type, a, b, c)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a tile's levels for so many rows: where LLVM's instructions read it.

    `load` gives a vector of levels, four inputs a lane, or eight of 4 bits; `word` four of a row's activations, in every lane.
    """

    bits: int  # of a level
    load: Callable[[Any], Any]
    word: Callable[[Any, int], Any]


# The vectors, a start for each row, and a block -> the starts with all products of their row added.
AddDots = Callable[[Vectors, list[Any], Block], list[Any]]


def _vnni(vectors: Vectors, starts: list[Any], block: Block) -> list[Any]:
    """VNNI: four products and the sum in one instruction."""
    totals, name = starts, f"llvm.x86.avx512.vpdpbusd.{32 * vectors.lanes}"
    for number in range(block.bits):
        for part, weights in enumerate(_octets(vectors, block, INT64(number))):
            unit = INT64(number + 4 * part)
            totals = [vectors.call(name, total.type, total, weights, block.word(unit, row)) for row, total in enumerate(totals)]
    return totals


def _octets(vectors: Vectors, block: Block, number: Any) -> list[Any]:
    """A load's levels as bytes: of 4 bits, four inputs in the lower halves, and four in the upper ones."""
    levels = block.load(number)
    if block.bits == 8:
        return [levels]
    mask, four = vectors.constant(INT32, 0x0F0F0F0F), vectors.constant(INT32, 4)
    return [vectors.builder.and_(each, mask) for each in (levels, vectors.builder.lshr(levels, four))]


def _avx2(vectors: Vectors, starts: list[Any], block: Block) -> list[Any]:
    """AVX2: sums of two products in 16 bits. Eight of 4-bit weights fit: 8 · 2 · 15 · 127 < 2¹⁵.

    Of 8-bit weights two do, without the weights' signs, which the activations take: 2 · 128 · 127. The loop is not unrolled, so
    that weights and sums stay in registers.
    """
    builder, ones, signed = vectors.builder, vectors.constant(INT16, 1, 2 * vectors.lanes), block.bits == 8
    zeros, octets = vectors.constant(INT16, 0, 2 * vectors.lanes), vectors.of(INT8, 4 * vectors.lanes)
    before, body, after = builder.block, builder.append_basic_block("loads"), builder.append_basic_block("dots")
    builder.branch(body)
    builder.position_at_end(body)
    number = builder.phi(INT64)
    sums = [builder.phi(start.type if signed else zeros.type) for start in starts]
    following = [*sums]
    if signed:
        middle = vectors.constant(INT32, 0x80808080)
        weights = builder.bitcast(builder.xor(block.load(number), middle), octets)
        sizes = vectors.call(f"llvm.abs.v{4 * vectors.lanes}i8", octets, weights, ir.IntType(1)(0))
        for row, total in enumerate(sums):
            x = vectors.call("llvm.x86.avx2.psign.b", octets, builder.bitcast(block.word(number, row), octets), weights)
            pairs = vectors.call("llvm.x86.avx2.pmadd.ub.sw", zeros.type, sizes, x)
            following[row] = builder.add(total, vectors.call("llvm.x86.avx2.pmadd.wd", total.type, pairs, ones))
    else:
        for part, levels in enumerate(_octets(vectors, block, number)):
            unit = builder.add(number, INT64(4 * part))
            for row, total in enumerate(following):
                x = builder.bitcast(block.word(unit, row), octets)
                pairs = vectors.call("llvm.x86.avx2.pmadd.ub.sw", zeros.type, builder.bitcast(levels, octets), x)
                following[row] = builder.add(total, pairs)
    more = builder.add(number, INT64(1))
    number.add_incoming(INT64(0), before)
    number.add_incoming(more, body)
    for total, start, new in zip(sums, starts, following, strict=True):
        total.add_incoming(start if signed else zeros, before)
        total.add_incoming(new, body)
    not_unrolled(builder.cbranch(builder.icmp_signed("<", more, INT64(block.bits)), body, after), builder.module)
    builder.position_at_end(after)
    if signed:
        return following
    return [
        builder.add(start, vectors.call("llvm.x86.avx2.pmadd.wd", start.type, each, ones))
        for start, each in zip(starts, following, strict=True)
    ]


def _portable(vectors: Vectors, starts: list[Any], block: Block) -> list[Any]:
    """Any processor: one product at a time."""
    builder, totals = vectors.builder, starts
    octet = vectors.constant(INT32, 255)
    for number in range(block.bits):
        for part, weights in enumerate(_octets(vectors, block, INT64(number))):
            for row, total in enumerate(totals):
                word = block.word(INT64(number + 4 * part), row)
                for place in range(4):
                    up, down = vectors.constant(INT32, 24 - 8 * place), vectors.constant(INT32, 24)
                    x = builder.ashr(builder.shl(word, up), down)
                    weight = builder.and_(builder.lshr(weights, vectors.constant(INT32, 8 * place)), octet)
                    total = builder.add(total, builder.mul(weight, x))
                totals[row] = total
    return totals


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions for dot products: their vectors' lanes, and how they add products."""

    name: str
    lanes: int
    add_dots: AddDots
    signed: bool = False  # whether levels of 8 bits are taken less 128, their middle


PORTABLE = Instructions("portable", 4, _portable)
# By the features that all of them need, best first.
X86 = (
    ({"avx512f", "avx512bw", "avx512vnni"}, Instructions("AVX-512 VNNI", 16, _vnni)),
    ({"avx512vl", "avx512vnni", "fma"}, Instructions("AVX-512 VNNI, 256 bits", 8, _vnni)),
    ({"avx2", "avxvnni", "fma"}, Instructions("AVX VNNI", 8, _vnni)),
    ({"avx2", "fma"}, Instructions("AVX2", 8, _avx2, signed=True)),
)


def instructions() -> Instructions:
    """The instructions to use: of the features that Numba compiles for, which `NUMBA_CPU_FEATURES` may limit."""
    return next((found for needed, found in X86 if all(map(has, needed))), PORTABLE)
