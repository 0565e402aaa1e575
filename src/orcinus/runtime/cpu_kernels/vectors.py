"""Vectors of float32 for kernels that are written in LLVM's instructions, as wide as the processor that they are compiled for.

Numba lets LLVM decide which loops become vectors and what stays in registers. Where that matters, kernels say it themselves.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from functools import partial

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

FLOAT, HALF, WORD, INDEX = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)


def has(feature: str) -> bool:
    """Whether code is compiled for a processor with this feature, in LLVM's name."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")


LANES = 16 if has("avx512f") else 8  # numbers in a vector; there are 32 registers of 16, or 16 of 8
VECTOR, WORDS = ir.VectorType(FLOAT, LANES), ir.VectorType(WORD, LANES)
ZEROS = ir.Constant(VECTOR, [0.0] * LANES)


def everywhere(builder: ir.IRBuilder, value: ir.Value, lanes: int = LANES) -> ir.Value:
    """A number in every lane of a vector."""
    nothing, firsts = (
        ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined),
        ir.Constant(ir.VectorType(WORD, lanes), [0] * lanes),
    )
    return builder.shuffle_vector(builder.insert_element(nothing, value, WORD(0)), nothing, firsts)


def fma(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, total: ir.Value) -> ir.Value:
    """x · y + total of vectors of any size, rounded once where the processor can."""
    kind, name = ir.FunctionType(x.type, [x.type] * 3), f"llvm.fmuladd.v{x.type.count}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x, y, total])


def fetch(builder: ir.IRBuilder, pointer: ir.Value) -> None:
    """Ask for the cache line at a pointer, which may lie outside of any memory. Nothing waits for it."""
    place = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [place.type, WORD, WORD, WORD])
    to_read, all_caches, data = WORD(0), WORD(3), WORD(1)
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), [place, to_read, all_caches, data])


def words(number: int) -> ir.Constant:
    """An integer in every lane of a vector."""
    return ir.Constant(WORDS, [number] * LANES)


def halves(builder: ir.IRBuilder, pairs: ir.Value) -> list[ir.Value]:
    """The first and the second bfloat16 of each word, as float32."""
    many = pairs.type == WORDS
    shift, upper = (words(n) if many else WORD(n) for n in (16, -(1 << 16)))
    as_float = partial(builder.bitcast, typ=VECTOR if many else FLOAT)
    return [as_float(builder.shl(pairs, shift)), as_float(builder.and_(pairs, upper))]


def rounded_to_bfloat16(builder: ir.IRBuilder, numbers: ir.Value) -> ir.Value:
    """float32 as bfloat16, to nearest, ties to even."""
    bits = builder.bitcast(numbers, WORDS)
    odd = builder.and_(builder.lshr(bits, words(16)), words(1))
    up = builder.add(bits, builder.add(odd, words(0x7FFF)))
    return builder.trunc(builder.lshr(up, words(16)), ir.VectorType(HALF, LANES))


def total(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The sum of a vector's numbers: its upper half is added to the lower one until one is left."""
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        kind = ir.VectorType(WORD, lanes)
        low, high = (ir.Constant(kind, [*range(first, first + lanes)]) for first in (0, lanes))
        vector = builder.fadd(builder.shuffle_vector(vector, vector, low), builder.shuffle_vector(vector, vector, high))
    return builder.extract_element(vector, WORD(0))
