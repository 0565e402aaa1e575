"""Rows as 8-bit integers, with a scale for each row."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, MANY, array, load

ZERO = 128  # the byte of 0.0: unsigned, because dot products of CPUs take unsigned by signed bytes
LEVELS = F32(127)
ROUND = F32(3 * 2**22 + ZERO)  # added to a small number, it leaves the nearest integer (and ZERO) in the lowest bits
WITHOUT_SIGN = np.int32(0x7FFFFFFF)
LARGEST = F32(np.finfo(np.float32).max).view(np.int32)
SMALLEST = F32(1e-36).view(np.int32)  # below, a row counts as zeros, because 127 / x would be infinite


@numba.njit(error_model="numpy", forceinline=True)
def _quantize_row(x, row, out, scales):
    size = x.shape[1]
    most = np.int32(0)  # the bits of the largest absolute value; as an integer, because NaN counts as the largest
    for i in range(size):
        most = np.int32(max(most, F32(load(x[row, i])).view(np.int32) & WITHOUT_SIGN))
    usable = SMALLEST <= most <= LARGEST
    largest = np.int32(most).view(np.float32)
    scales[row, 0] = largest / LEVELS if usable else F32(0) if most < SMALLEST else np.float32(np.nan)
    inverse = LEVELS / largest if usable else F32(0)
    if not usable:
        out[row, :] = ZERO
        return
    for i in range(size):
        out[row, i] = np.uint8(F32(load(x[row, i]) * inverse + ROUND).view(np.int32) & np.int32(255))


@numba.njit(error_model="numpy")
def _quantize(x, out, scales):
    for row in range(len(x)):
        _quantize_row(x, row, out, scales)


@numba.njit(parallel=True, error_model="numpy")
def _quantize_many(x, out, scales):
    for row in numba.prange(len(x)):
        _quantize_row(x, row, out, scales)


_quantize, _quantize_many = keep_compiled(_quantize), keep_compiled(_quantize_many)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `[T, size]` as bytes around `ZERO`, and the scale `[T, 1]` of each row.

    x is about (bytes - ZERO) · scale. A row depends on nothing but itself. One that holds an infinity or NaN has the scale NaN.
    """
    out, scales = np.empty(x.shape, np.uint8), np.empty((len(x), 1), np.float32)
    kernel = _quantize_many if x.numel() >= MANY else _quantize
    kernel(array(x), out, scales)
    return torch.from_numpy(out), torch.from_numpy(scales)
