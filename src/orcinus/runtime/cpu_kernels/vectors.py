"""Vectors of float32 for kernels that are written in LLVM's instructions, as wide as the processor that they are compiled for.

Numba lets LLVM decide which loops become vectors and what stays in registers. Where that matters, kernels say it themselves.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Sequence
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
DOT = has("avx512bf16")  # products of pairs of bfloat16, added up in float32


class _BFloat(ir.Type):  # type: ignore[misc]  # llvmlite has no name for it
    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def everywhere(builder: ir.IRBuilder, value: ir.Value, lanes: int = LANES) -> ir.Value:
    """A number in every lane of a vector."""
    nothing, firsts = (
        ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined),
        ir.Constant(ir.VectorType(WORD, lanes), [0] * lanes),
    )
    return builder.shuffle_vector(builder.insert_element(nothing, value, WORD(0)), nothing, firsts)


def not_unrolled(end: ir.Instruction, module: ir.Module) -> None:
    """Keep LLVM from unrolling the loop that ends with this branch."""
    plain = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    name = ir.values.MDValue(module, [plain], str(len(module.metadata)))
    name.operands = (name, plain)  # a loop's name is a list that begins with itself
    end.set_metadata("llvm.loop", name)


def fma(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, total: ir.Value) -> ir.Value:
    """x · y + total of vectors of any size, rounded once where the processor can."""
    kind, name = ir.FunctionType(x.type, [x.type] * 3), f"llvm.fmuladd.v{x.type.count}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x, y, total])


def add_products(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, total: ir.Value) -> ir.Value:
    """total + x · y, for vectors of float32, or of words of two bfloat16 (needs `DOT`), whose two products are added."""
    if x.type.element == FLOAT:
        return fma(builder, x, y, total)
    count = x.type.count
    if count == 1:
        wide = (pick(builder, each, each, [0] * LANES) for each in (x, y, total))
        found = add_products(builder, *wide)
        return pick(builder, found, found, [0])
    if count > LANES:
        parts = [range(first, first + LANES) for first in range(0, count, LANES)]
        sums = [add_products(builder, *(pick(builder, each, each, part) for each in (x, y, total))) for part in parts]
        low, high = sums  # a vector is one or two registers
        return pick(builder, low, high, range(count))
    pairs = ir.VectorType(_BFloat(), 2 * LANES)
    kind = ir.FunctionType(VECTOR, [VECTOR, pairs, pairs])
    dot = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512bf16.dpbf16ps.{32 * LANES}")
    return builder.call(dot, [total, builder.bitcast(x, pairs), builder.bitcast(y, pairs)])


def fetch(builder: ir.IRBuilder, pointer: ir.Value) -> None:
    """Ask for the cache line at a pointer, which may lie outside of any memory. Nothing waits for it."""
    place = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [place.type, WORD, WORD, WORD])
    to_read, all_caches, data = WORD(0), WORD(3), WORD(1)
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), [place, to_read, all_caches, data])


def in_order(builder: ir.IRBuilder) -> None:
    """Keep LLVM from moving loads across: it would load more than registers hold."""
    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)


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


def in_registers(builder: ir.IRBuilder, places: Sequence[ir.Value]) -> list[ir.Value]:
    """Copies of numbers in memory, which LLVM keeps in registers during a loop."""
    kept = [cgutils.alloca_once(builder, place.type.pointee) for place in places]
    for place, slot in zip(places, kept, strict=True):
        builder.store(builder.load(place, align=4), slot)
    return kept


def write_back(builder: ir.IRBuilder, kept: Sequence[ir.Value], places: Sequence[ir.Value]) -> None:
    """Copies back to memory."""
    for slot, place in zip(kept, places, strict=True):
        builder.store(builder.load(slot), place, align=4)


def largest(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger numbers of two vectors; y's where one of them is NaN."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def pick(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, places: Sequence[int]) -> ir.Value:
    """Numbers of two vectors by their places: those of y follow those of x."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(WORD, len(places)), [*places]))


def transposed(builder: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """The columns of 4, 8 or 16 vectors of as many numbers.

    Inside quarters of 4 numbers, pairs of rows and then pairs of pairs are interleaved; then quarters are dealt out. Each step
    is one instruction of the processor.
    """
    lanes = len(rows)

    def inside(x: ir.Value, y: ir.Value, quarter: Sequence[int]) -> ir.Value:
        return pick(
            builder, x, y, [first + at if at < 4 else lanes + first + at - 4 for first in range(0, lanes, 4) for at in quarter]
        )

    four: list[list[ir.Value]] = [[], [], [], []]  # by column inside a quarter: a vector for each four rows
    for first in range(0, lanes, 4):
        a, b, c, d = rows[first : first + 4]
        low, high = (
            [inside(a, b, (0, 4, 1, 5)), inside(c, d, (0, 4, 1, 5))],
            [inside(a, b, (2, 6, 3, 7)), inside(c, d, (2, 6, 3, 7))],
        )
        for place, (x, y) in enumerate((low, high)):
            four[2 * place].append(inside(x, y, (0, 1, 4, 5)))
            four[2 * place + 1].append(inside(x, y, (2, 3, 6, 7)))
    columns = [_dealt(builder, each) for each in four]
    return [columns[at % 4][at // 4] for at in range(lanes)]


def _dealt(builder: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """Vectors of the first quarters of all, of the second ones, and so on."""
    if len(vectors) == 1:
        return vectors
    quarters = vectors[0].type.count // 4
    halves = []
    for first in (0, 1):
        places = [4 * quarter + at for quarter in range(first, 2 * quarters, 2) for at in range(4)]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        halves.append(_dealt(builder, [pick(builder, x, y, places) for x, y in pairs]))
    return [vector for pair in zip(*halves, strict=True) for vector in pair]


def total(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The sum of a vector's numbers: its upper half is added to the lower one until one is left."""
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        kind = ir.VectorType(WORD, lanes)
        low, high = (ir.Constant(kind, [*range(first, first + lanes)]) for first in (0, lanes))
        vector = builder.fadd(builder.shuffle_vector(vector, vector, low), builder.shuffle_vector(vector, vector, high))
    return builder.extract_element(vector, WORD(0))
