"""Activations, alone and gated: act(gate) · up (GLU: Shazeer, "GLU variants", 2020)."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np

from orcinus.runtime.compiled import external, keep_compiled, reordered
from orcinus.runtime.cpu_kernels.elements import F32, exp, load, rounded

SILU, TANH_GELU, GELU, RELU, SQUARED_RELU = range(5)
KINDS = {
    "silu": SILU,
    "swish": SILU,
    "gelu": GELU,
    "gelu_pytorch_tanh": TANH_GELU,
    "gelu_new": TANH_GELU,
    "gelu_fast": TANH_GELU,
    "relu": RELU,
    "relu2": SQUARED_RELU,
}
# erfc(z) = t · exp(P(t) - z²) with t = 1 / (1 + z / 2), relative error below 1.2e-7 (Press et al., Numerical Recipes, 6.2)
ERFC = tuple(
    F32(c)
    for c in (0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368)
)
ERFC_LAST = F32(-1.26551223)


@reordered(forceinline=True)
def _sigmoid(x):
    e = exp(-abs(x))
    return (F32(1) if x >= 0 else e) / (F32(1) + e)


@reordered(forceinline=True)
def _normal_share(x):
    """The share of a normal distribution below x."""
    z = min(abs(x), F32(20)) * F32(0.7071067811865476)
    t = F32(1) / (F32(1) + F32(0.5) * z)
    p = ((((ERFC[0] * t + ERFC[1]) * t + ERFC[2]) * t + ERFC[3]) * t + ERFC[4]) * t + ERFC[5]
    p = (((p * t + ERFC[6]) * t + ERFC[7]) * t + ERFC[8]) * t + ERFC_LAST
    above = F32(0.5) * t * exp(min(p - z * z, F32(0)))
    return F32(1) - above if x >= 0 else above


@reordered(forceinline=True)
def _activated(x, kind):
    if kind == SILU:
        return x * _sigmoid(x)
    if kind == TANH_GELU:  # (1 + tanh u) / 2 is the sigmoid of 2u
        return x * _sigmoid(F32(1.5957691216057308) * (x + F32(0.044715) * x * x * x))
    if kind == GELU:
        return x * _normal_share(x)
    positive = max(x, F32(0))
    return positive if kind == RELU else positive * positive


@reordered(forceinline=True)
def _gate(x, row, out, kind):
    size = out.shape[1]
    for i in range(size):
        out[row, i] = rounded(_activated(load(x[row, i]), kind) * load(x[row, size + i]), out)


@reordered
def _gate_row(x, row, out, kind):
    """One loop for each activation: a choice inside a loop would keep LLVM from using vectors."""
    if kind == SILU:
        _gate(x, row, out, SILU)
    elif kind == TANH_GELU:
        _gate(x, row, out, TANH_GELU)
    elif kind == GELU:
        _gate(x, row, out, GELU)
    elif kind == RELU:
        _gate(x, row, out, RELU)
    else:
        _gate(x, row, out, SQUARED_RELU)


gate_row = external(_gate_row)


@reordered
def gated(x, out, kind):
    """`out` `[T, size]` = act(gate) · up, for gate and up side by side in x `[T, 2 · size]`; `kind` is one of `KINDS`."""
    for row in range(len(x)):
        gate_row(x, np.int64(row), out, kind)


@reordered(parallel=True)
def gated_of_many(x, out, kind):
    """`gated`, on all threads."""
    for row in numba.prange(len(x)):
        gate_row(x, np.int64(row), out, kind)


@reordered(forceinline=True)
def _activate(x, row, out, kind):
    for i in range(out.shape[1]):
        out[row, i] = rounded(_activated(load(x[row, i]), kind), out)


@reordered
def _activate_row(x, row, out, kind):
    if kind == SILU:
        _activate(x, row, out, SILU)
    elif kind == TANH_GELU:
        _activate(x, row, out, TANH_GELU)
    elif kind == GELU:
        _activate(x, row, out, GELU)
    elif kind == RELU:
        _activate(x, row, out, RELU)
    else:
        _activate(x, row, out, SQUARED_RELU)


activate_row = external(_activate_row)


@reordered
def activated(x, out, kind):
    """`out` = act(x), both `[T, size]`; `kind` is one of `KINDS`."""
    for row in range(len(x)):
        activate_row(x, np.int64(row), out, kind)


@reordered(parallel=True)
def activated_of_many(x, out, kind):
    """`activated`, on all threads."""
    for row in numba.prange(len(x)):
        activate_row(x, np.int64(row), out, kind)


gated, gated_of_many = keep_compiled(gated), keep_compiled(gated_of_many)
activated, activated_of_many = keep_compiled(activated), keep_compiled(activated_of_many)
