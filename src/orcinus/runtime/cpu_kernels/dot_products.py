"""Dot products of weights of 4 or 8 bits and 8-bit activations, with the best instructions that Numba compiles for.

Weights are unsigned numbers, activations signed ones up to 127. A lane is one output: it adds the products of four
neighbouring inputs at a time. All sums are exact, so every set of instructions gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from orcinus.runtime.cpu_kernels.vectors import has

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


# The vectors, a start, (weights, pointer to four activations) pairs, and the weights' bits -> the start with all products
# added to it.
AddDots = Callable[[Vectors, Any, Sequence[tuple[Any, Any]], int], Any]


def _four(vectors: Vectors, pointer: Any) -> Any:
    """Four activations, in every lane."""
    builder = vectors.builder
    return vectors.splat(builder.load(builder.bitcast(pointer, INT32.as_pointer()), align=4))


def _vnni(vectors: Vectors, start: Any, pairs: Sequence[tuple[Any, Any]], bits: int) -> Any:
    """VNNI: four products and the sum in one instruction."""
    total, name = start, f"llvm.x86.avx512.vpdpbusd.{32 * vectors.lanes}"
    for weights, pointer in pairs:
        total = vectors.call(name, total.type, total, weights, _four(vectors, pointer))
    return total


def _avx2(vectors: Vectors, start: Any, pairs: Sequence[tuple[Any, Any]], bits: int) -> Any:
    """AVX2: sums of two products in 16 bits, in which eight of 4-bit weights fit: 8 · 2 · 15 · 127 < 2¹⁵.

    Weights of 8 bits are two of 4 bits: 16 · upper + lower.
    """
    builder = vectors.builder
    if bits == 8:
        mask, four = vectors.constant(INT32, 0x0F0F0F0F), vectors.constant(INT32, 4)
        lower = [(builder.and_(weights, mask), pointer) for weights, pointer in pairs]
        upper = [(builder.and_(builder.lshr(weights, four), mask), pointer) for weights, pointer in pairs]
        sixteenths = _avx2(vectors, vectors.constant(INT32, 0), upper, 4)
        return builder.add(_avx2(vectors, start, lower, 4), builder.shl(sixteenths, four))
    sums, octets = vectors.constant(INT16, 0, 2 * vectors.lanes), vectors.of(INT8, 4 * vectors.lanes)
    for weights, pointer in pairs:
        bytes_, four_inputs = builder.bitcast(weights, octets), builder.bitcast(_four(vectors, pointer), octets)
        sums = builder.add(sums, vectors.call("llvm.x86.avx2.pmadd.ub.sw", sums.type, bytes_, four_inputs))
    ones = vectors.constant(INT16, 1, 2 * vectors.lanes)
    return builder.add(start, vectors.call("llvm.x86.avx2.pmadd.wd", start.type, sums, ones))


def _portable(vectors: Vectors, start: Any, pairs: Sequence[tuple[Any, Any]], bits: int) -> Any:
    """Any processor: one product at a time."""
    builder, total = vectors.builder, start
    for weights, pointer in pairs:
        for number in range(4):
            x = builder.sext(builder.load(builder.gep(pointer, [INT64(number)])), INT32)
            shifted = builder.lshr(weights, vectors.constant(INT32, 8 * number))
            weight = builder.and_(shifted, vectors.constant(INT32, 255))
            total = builder.add(total, builder.mul(weight, vectors.splat(x)))
    return total


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions for dot products: their vectors' lanes, and how they add products."""

    name: str
    lanes: int
    add_dots: AddDots


PORTABLE = Instructions("portable", 4, _portable)
# By the features that all of them need, best first.
X86 = (
    ({"avx512f", "avx512bw", "avx512vnni"}, Instructions("AVX-512 VNNI", 16, _vnni)),
    ({"avx512vl", "avx512vnni", "fma"}, Instructions("AVX-512 VNNI, 256 bits", 8, _vnni)),
    ({"avx2", "avxvnni", "fma"}, Instructions("AVX VNNI", 8, _vnni)),
    ({"avx2", "fma"}, Instructions("AVX2", 8, _avx2)),
)


def instructions() -> Instructions:
    """The instructions to use: of the features that Numba compiles for, which `NUMBA_CPU_FEATURES` may limit."""
    return next((found for needed, found in X86 if all(map(has, needed))), PORTABLE)
