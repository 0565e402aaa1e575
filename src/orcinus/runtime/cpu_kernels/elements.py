"""Elements of arrays as float32, the exponential, and tensors as arrays.

Numba has no bfloat16: such arrays come as their 16 bits (uint16). Bytes (uint8) are integers around `ZERO`, whose scale the
caller knows.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from orcinus.runtime.compiled import reordered
from orcinus.runtime.cpu_kernels.vectors import FLOAT, INDEX, LANES, VECTOR, WORD, ZEROS, everywhere, fetch, fma, pick

KVArrays: TypeAlias = tuple[  # keys and values; the scales of both, if they are bytes
    np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any] | None, np.ndarray[Any, Any] | None
]  # fmt: skip
MANY = 1 << 16  # elements from which other threads help; below, waking them takes longer than the work
LOADED = (torch.float32, torch.bfloat16)  # dtypes that kernels take
F32, INT32 = np.float32, ir.IntType(32)
ZERO = 128  # the byte of 0.0 in rows of 8-bit integers: unsigned, because dot products of CPUs take unsigned by signed bytes
LOG2_E = F32(1.4426950408889634)
# 2**f for 0 <= f < 1, interpolated at Chebyshev nodes:
EXP2 = tuple(F32(c) for c in (2.18657848e-4, 1.23913318e-3, 9.68418631e-3, 5.54806302e-2, 0.240230454, 0.693146933, 1.0))


def array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The same memory as a numpy array; bfloat16 as its 16 bits."""
    return tensor.contiguous().view(torch.uint16).numpy() if tensor.dtype is torch.bfloat16 else tensor.contiguous().numpy()


@reordered(forceinline=True)
def exp(x):
    """e**x for x <= 0 in float32; relative error below 3e-7.

    2**whole by its bits times a polynomial for 2**fraction: a call of the library's would cost more than reading a key.
    """
    t = max(x * LOG2_E, F32(-127))  # whose power is 0
    whole = np.floor(t)
    f = t - whole
    p = (((((EXP2[0] * f + EXP2[1]) * f + EXP2[2]) * f + EXP2[3]) * f + EXP2[4]) * f + EXP2[5]) * f + EXP2[6]
    return p * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@intrinsic
def load(_, x):
    """An element as float32."""

    def generate(_context, builder, _signature, arguments):
        (value,) = arguments
        if x == types.uint8:  # flipping the highest bit subtracts ZERO
            return builder.sitofp(builder.xor(value, ir.IntType(8)(ZERO)), ir.FloatType())
        if x != types.uint16:
            return value
        return builder.bitcast(builder.shl(builder.zext(value, INT32), INT32(16)), ir.FloatType())

    return types.float32(x), generate


@intrinsic
def rounded(_, x, like):
    """A float32 as an element of the array `like`; bfloat16 is rounded to nearest, ties to even."""
    bits = like.dtype == types.uint16

    def generate(_context, builder, _signature, arguments):
        value = arguments[0]
        if not bits:
            return value
        found = builder.bitcast(value, INT32)
        odd = builder.and_(builder.lshr(found, INT32(16)), INT32(1))
        return builder.trunc(builder.lshr(builder.add(found, builder.add(odd, INT32(0x7FFF))), INT32(16)), ir.IntType(16))

    return like.dtype(x, like), generate


@intrinsic
def prefetch(_, x, place):
    """Ask for the cache line of element `place`, counted from the first, of a contiguous array. Nothing waits for it."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        fetch(builder, builder.gep(data, [arguments[1]]))
        return context.get_dummy_value()

    return types.none(x, types.intp), generate


def read_vector(builder, data, at, lanes=LANES):
    """Neighbouring numbers as float32."""
    stored = ir.VectorType(data.type.pointee, lanes)
    value = builder.load(builder.bitcast(builder.gep(data, [at]), stored.as_pointer()), align=1)
    if stored.element == FLOAT:
        return value
    if stored.element == ir.IntType(8):
        return builder.sitofp(builder.xor(value, ir.Constant(stored, [ZERO] * lanes)), ir.VectorType(FLOAT, lanes))
    wide = ir.VectorType(WORD, lanes)
    return builder.bitcast(builder.shl(builder.zext(value, wide), ir.Constant(wide, [16] * lanes)), ir.VectorType(FLOAT, lanes))


def _sum(add_term):
    """A sum over a contiguous row less a mean, in one order: two vectors of sums, their lanes, then what is left."""

    @intrinsic
    def add_up(_, x, mean):
        def generate(context, builder, signature, arguments):
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            count, two = builder.extract_value(array.shape, 0), 2 * LANES
            whole = builder.and_(count, INDEX(-two))
            sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(2)]
            total = cgutils.alloca_once(builder, FLOAT)

            def added(at, lanes, sum_yet):
                numbers = read_vector(builder, array.data, at, lanes)
                return add_term(builder, builder.fsub(numbers, everywhere(builder, arguments[1], lanes)), sum_yet)

            for place in sums:
                builder.store(ZEROS, place)
            with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(two), intp=INDEX) as (at, _):
                for half, place in enumerate(sums):
                    builder.store(added(builder.add(at, INDEX(half * LANES)), LANES, builder.load(place)), place)
            vector, half = builder.fadd(*map(builder.load, sums)), LANES // 2
            while half:
                swapped = pick(builder, vector, vector, [lane ^ half for lane in range(LANES)])
                vector, half = builder.fadd(vector, swapped), half // 2
            builder.store(builder.extract_element(vector, INT32(0)), total)
            with cgutils.for_range_slice(builder, whole, count, INDEX(1), intp=INDEX) as (at, _):
                single = builder.insert_element(
                    ir.Constant(ir.VectorType(FLOAT, 1), ir.Undefined), builder.load(total), INT32(0)
                )
                builder.store(builder.extract_element(added(at, 1, single), INT32(0)), total)
            return builder.load(total)

        return types.float32(x, types.float32), generate

    return add_up


# Sums of a row's distances from a mean, and of their squares: sum_of(x, mean), sum_of_squares(x, mean).
sum_of = _sum(lambda builder, far, total: builder.fadd(far, total))
sum_of_squares = _sum(lambda builder, far, total: fma(builder, far, far, total))
