"""Gated activations: act(gate) · up (GLU: Shazeer, "GLU variants", 2020)."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, FAST, exp, load, rounded

SILU, TANH_GELU, RELU = range(3)
KINDS = {"silu": SILU, "swish": SILU, "gelu_pytorch_tanh": TANH_GELU, "gelu_new": TANH_GELU, "relu": RELU}


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _sigmoid(x):
    e = exp(-abs(x))
    return (F32(1) if x >= 0 else e) / (F32(1) + e)


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _activated(x, kind):
    if kind == SILU:
        return x * _sigmoid(x)
    if kind == TANH_GELU:  # (1 + tanh u) / 2 is the sigmoid of 2u
        return x * _sigmoid(F32(1.5957691216057308) * (x + F32(0.044715) * x * x * x))
    return max(x, F32(0))


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _gate(x, row, out, kind):
    size = out.shape[1]
    for i in range(size):
        out[row, i] = rounded(_activated(load(x[row, i]), kind) * load(x[row, size + i]), out)


@numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _gate_row(x, row, out, kind):
    """One loop for each activation: a choice inside a loop would keep LLVM from using vectors."""
    if kind == SILU:
        _gate(x, row, out, SILU)
    elif kind == TANH_GELU:
        _gate(x, row, out, TANH_GELU)
    else:
        _gate(x, row, out, RELU)


@numba.njit(fastmath=FAST, error_model="numpy")
def gated(x, out, kind):
    """`out` `[T, size]` = act(gate) · up, for gate and up side by side in x `[T, 2 · size]`; `kind` is one of `KINDS`."""
    for row in range(len(x)):
        _gate_row(x, row, out, kind)


@numba.njit(parallel=True, fastmath=FAST, error_model="numpy")
def gated_of_many(x, out, kind):
    """`gated`, on all threads."""
    for row in numba.prange(len(x)):
        _gate_row(x, row, out, kind)


gated, gated_of_many = keep_compiled(gated), keep_compiled(gated_of_many)
