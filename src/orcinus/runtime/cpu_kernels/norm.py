"""RMSNorm and LayerNorm, and the same after adding to the residual stream.

A norm is its kind, weight `[size]` and bias `[size]`. RMSNorm (Zhang and Sennrich, 2019) reads no bias; LayerNorm is that
of Ba et al. (2016).
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np

from orcinus.runtime.compiled import exact, keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, load, rounded, sum_of, sum_of_squares

RMS, LAYER = range(2)  # kinds


@exact(forceinline=True)
def _norm_row(x, row, norm, eps, out):
    kind, weight, bias = norm
    size, mean = x.shape[1], F32(0)
    if kind == LAYER:
        mean = sum_of(x[row], mean) / F32(size)
    inverse = F32(1) / np.sqrt(sum_of_squares(x[row], mean) / F32(size) + eps)
    if kind == LAYER:
        for i in range(size):
            out[row, i] = rounded((load(x[row, i]) - mean) * inverse * load(weight[i]) + load(bias[i]), out)
    else:
        for i in range(size):
            out[row, i] = rounded(load(x[row, i]) * inverse * load(weight[i]), out)


@exact(forceinline=True)
def _add_row(x, delta, row):
    """A row of x += delta."""
    for i in range(x.shape[1]):
        x[row, i] = rounded(load(x[row, i]) + load(delta[row, i]), x)


@exact
def normalize(x, norm, eps, out):
    """`out` = the norm of `x`, both `[T, size]`."""
    for row in range(len(x)):
        _norm_row(x, row, norm, eps, out)


@exact(parallel=True)
def normalize_many(x, norm, eps, out):
    """`normalize`, on all threads."""
    for row in numba.prange(len(x)):
        _norm_row(x, row, norm, eps, out)


@exact
def add_normalize(x, delta, norm, eps, out):
    """x += delta; then `normalize` it."""
    for row in range(len(x)):
        _add_row(x, delta, row)
        _norm_row(x, row, norm, eps, out)


@exact(parallel=True)
def add_normalize_many(x, delta, norm, eps, out):
    """`add_normalize`, on all threads."""
    for row in numba.prange(len(x)):
        _add_row(x, delta, row)
        _norm_row(x, row, norm, eps, out)


@exact(forceinline=True)
def _finish_row(x, row, norm, eps, factor, others):
    if len(norm[1]):
        _norm_row(x, row, norm, eps, x)
    if factor != 1:
        for i in range(x.shape[1]):
            x[row, i] = rounded(load(x[row, i]) * factor, x)
    if len(others):
        _add_row(x, others, row)


@exact
def finish(x, norm, eps, factor, others):
    """An output as it is added to the residual stream: its norm, if it has a weight, times a factor, plus another output.

    x is `[T, size]`, and so is the other output, or it is empty.
    """
    for row in range(len(x)):
        _finish_row(x, row, norm, eps, factor, others)


@exact(parallel=True)
def finish_many(x, norm, eps, factor, others):
    """`finish`, on all threads."""
    for row in numba.prange(len(x)):
        _finish_row(x, row, norm, eps, factor, others)


normalize, normalize_many = keep_compiled(normalize), keep_compiled(normalize_many)
add_normalize, add_normalize_many = keep_compiled(add_normalize), keep_compiled(add_normalize_many)
finish, finish_many = keep_compiled(finish), keep_compiled(finish_many)
