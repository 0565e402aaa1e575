"""Rows as 8-bit integers, with a scale for each row."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.compiled import exact, keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, MANY, ZERO, array, load

LEVELS = F32(127)
ROUND = F32(3 * 2**22 + ZERO)  # added to a small number, it leaves the nearest integer (and ZERO) in the lowest bits
WITHOUT_SIGN = np.int32(0x7FFFFFFF)
LARGEST = F32(np.finfo(np.float32).max).view(np.int32)
SMALLEST = F32(1e-36).view(np.int32)  # below, a row counts as zeros, because 127 / x would be infinite


@exact(forceinline=True)
def quantize_row(x, out):
    """Write a row `[size]` as bytes around `ZERO`; returns its scale, which is NaN if the row is not finite."""
    most = np.int32(0)  # the bits of the largest absolute value; as an integer, because NaN counts as the largest
    for i in range(len(x)):
        most = np.int32(max(most, F32(load(x[i])).view(np.int32) & WITHOUT_SIGN))
    if not SMALLEST <= most <= LARGEST:
        out[:] = ZERO
        return F32(0) if most < SMALLEST else np.float32(np.nan)
    largest = np.int32(most).view(np.float32)
    inverse = LEVELS / largest
    for i in range(len(x)):
        out[i] = np.uint8(F32(load(x[i]) * inverse + ROUND).view(np.int32) & np.int32(255))
    return largest / LEVELS


@exact
def _quantize(x, out, scales):
    for row in range(len(x)):
        scales[row] = quantize_row(x[row], out[row])


@exact(parallel=True)
def _quantize_many(x, out, scales):
    for row in numba.prange(len(x)):
        scales[row] = quantize_row(x[row], out[row])


_quantize, _quantize_many = keep_compiled(_quantize), keep_compiled(_quantize_many)


def dequantize_rows(x: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows `[…, size]` of bytes around `ZERO`, times the scale `[…]` of each row."""
    return ((x.float() - ZERO) * scales[..., None]).to(dtype)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `[…, size]` as bytes around `ZERO`, and the scale `[…]` of each row.

    x is about (bytes - ZERO) · scale. A row depends on nothing but itself. One that holds an infinity or NaN has the scale NaN.
    """
    rows = array(x.reshape(-1, x.shape[-1]))
    out, scales = np.empty(rows.shape, np.uint8), np.empty(len(rows), np.float32)
    kernel = _quantize_many if x.numel() >= MANY else _quantize
    kernel(rows, out, scales)
    return torch.from_numpy(out).view(x.shape), torch.from_numpy(scales).view(x.shape[:-1])
