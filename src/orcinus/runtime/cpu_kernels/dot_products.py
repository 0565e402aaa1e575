"""Dot products of 4-bit weights and 8-bit activations, with the best instructions that Numba compiles for.

Weights are unsigned numbers up to 15, activations signed ones up to 127. A lane is one output: it adds the products of four
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

    def load(self, pointer: Any, element: Any) -> Any:
        """A vector from memory."""
        place = self.builder.bitcast(pointer, self.of(element).as_pointer())
        return self.builder.load(place, align=element.width // 8)

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """The result of one of LLVM's intrinsic functions."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a · b + c, rounded once."""
        return self.call(f"llvm.fma.v{self.lanes}f32", a.type, a, b, c)


# The vectors, a start, and (weights, pointer to four activations) pairs -> the start with all products added to it.
AddDots = Callable[[Vectors, Any, Sequence[tuple[Any, Any]]], Any]


def _four(vectors: Vectors, pointer: Any) -> Any:
    """Four activations, in every lane."""
    builder = vectors.builder
    return vectors.splat(builder.load(builder.bitcast(pointer, INT32.as_pointer()), align=4))


def _vnni(vectors: Vectors, start: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """VNNI: four products and the sum in one instruction."""
    total, name = start, f"llvm.x86.avx512.vpdpbusd.{32 * vectors.lanes}"
    for weights, pointer in pairs:
        total = vectors.call(name, total.type, total, weights, _four(vectors, pointer))
    return total


def _avx2(vectors: Vectors, start: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """AVX2: sums of two products in 16 bits. Eight of them fit: 8 · 2 · 15 · 127 < 2¹⁵."""
    builder, sums = vectors.builder, vectors.constant(INT16, 0, 2 * vectors.lanes)
    octets = vectors.of(INT8, 4 * vectors.lanes)
    for weights, pointer in pairs:
        bytes_, four = builder.bitcast(weights, octets), builder.bitcast(_four(vectors, pointer), octets)
        sums = builder.add(sums, vectors.call("llvm.x86.avx2.pmadd.ub.sw", sums.type, bytes_, four))
    ones = vectors.constant(INT16, 1, 2 * vectors.lanes)
    return builder.add(start, vectors.call("llvm.x86.avx2.pmadd.wd", start.type, sums, ones))


def _portable(vectors: Vectors, start: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
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
