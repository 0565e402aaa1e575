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


@exact
def add(x, delta):
    """x += delta, both `[T, size]`."""
    for row in range(len(x)):
        _add_row(x, delta, row)


@exact(parallel=True)
def add_many(x, delta):
    """`add`, on all threads."""
    for row in numba.prange(len(x)):
        _add_row(x, delta, row)


@exact(forceinline=True)
def _scale_row(x, row, norm, eps, factor):
    if len(norm[1]):
        _norm_row(x, row, norm, eps, x)
    if factor != 1:
        for i in range(x.shape[1]):
            x[row, i] = rounded(load(x[row, i]) * factor, x)


@exact
def scale(x, norm, eps, factor):
    """x = its norm (with an empty weight: itself) times a factor."""
    for row in range(len(x)):
        _scale_row(x, row, norm, eps, factor)


@exact(parallel=True)
def scale_many(x, norm, eps, factor):
    """`scale`, on all threads."""
    for row in numba.prange(len(x)):
        _scale_row(x, row, norm, eps, factor)


normalize, normalize_many = keep_compiled(normalize), keep_compiled(normalize_many)
add_normalize, add_normalize_many = keep_compiled(add_normalize), keep_compiled(add_normalize_many)
add, add_many, scale, scale_many = keep_compiled(add), keep_compiled(add_many), keep_compiled(scale), keep_compiled(scale_many)
