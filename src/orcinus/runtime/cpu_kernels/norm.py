"""RMSNorm, and the same after adding to the residual stream."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np

from orcinus.runtime.compiled import exact, keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, load, rounded, sum_of_squares


@exact(forceinline=True)
def _norm_row(x, row, weight, eps, out):
    size = x.shape[1]
    inverse = F32(1) / np.sqrt(sum_of_squares(x[row]) / F32(size) + eps)
    for i in range(size):
        out[row, i] = rounded(load(x[row, i]) * inverse * load(weight[i]), out)


@exact(forceinline=True)
def _add_row(x, delta, row):
    for i in range(x.shape[1]):
        x[row, i] = rounded(load(x[row, i]) + load(delta[row, i]), x)


@exact
def rms_norm(x, weight, eps, out):
    """`out` = RMSNorm of `x`, both `[T, size]`."""
    for row in range(len(x)):
        _norm_row(x, row, weight, eps, out)


@exact(parallel=True)
def rms_norm_of_many(x, weight, eps, out):
    """`rms_norm`, on all threads."""
    for row in numba.prange(len(x)):
        _norm_row(x, row, weight, eps, out)


@exact
def add_rms_norm(x, delta, weight, eps, out):
    """x += delta; then `rms_norm` of it."""
    for row in range(len(x)):
        _add_row(x, delta, row)
        _norm_row(x, row, weight, eps, out)


@exact(parallel=True)
def add_rms_norm_of_many(x, delta, weight, eps, out):
    """`add_rms_norm`, on all threads."""
    for row in numba.prange(len(x)):
        _add_row(x, delta, row)
        _norm_row(x, row, weight, eps, out)


rms_norm, rms_norm_of_many = keep_compiled(rms_norm), keep_compiled(rms_norm_of_many)
add_rms_norm, add_rms_norm_of_many = keep_compiled(add_rms_norm), keep_compiled(add_rms_norm_of_many)
