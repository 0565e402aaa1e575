"""The choice of experts for tokens, row by row: a row's bits do not depend on its place."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from orcinus.runtime.compiled import exact, keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, exp, load, rounded


@exact(forceinline=True)
def _choose(scores, row, experts):
    """The experts with the highest scores, the best first; of equal ones the first. Some are chosen even if scores are NaN."""
    for place in range(experts.shape[1]):
        best = -1
        for expert in range(scores.shape[1]):
            taken = False
            for earlier in range(place):
                taken |= experts[row, earlier] == expert
            if not taken and (best < 0 or load(scores[row, expert]) > load(scores[row, best])):
                best = expert
        experts[row, place] = best


@exact
def _route(scores, experts, weights, normalized):
    count = experts.shape[1]
    for row in range(len(scores)):
        _choose(scores, row, experts)
        highest, total = load(scores[row, experts[row, 0]]), F32(0)
        for place in range(count):
            weights[row, place] = exp(load(scores[row, experts[row, place]]) - highest)
            total += weights[row, place]
        if not normalized:
            total = F32(0)
            for expert in range(scores.shape[1]):
                total += exp(load(scores[row, expert]) - highest)
        for place in range(count):
            weights[row, place] /= total


@exact
def _gate_rows(x, gate):
    for row in range(len(x)):
        z = load(gate[row, 0])
        e = exp(-abs(z))
        share = (F32(1) if z >= 0 else e) / (F32(1) + e)
        for i in range(x.shape[1]):
            x[row, i] = rounded(load(x[row, i]) * share, x)


_compiled_route, _compiled_gate = keep_compiled(_route), keep_compiled(_gate_rows)


def route(scores: NDArray[Any], experts: NDArray[np.int64], weights: NDArray[np.float32], normalized: bool) -> None:
    """Fill `experts` `[T, count]` and `weights` from `scores` `[T, experts]`; see `Operators.route`."""
    _compiled_route(scores, experts, weights, normalized)


def gate_rows(x: NDArray[Any], gate: NDArray[Any]) -> None:
    """Multiply rows of `x` `[T, size]` by the sigmoid of `gate` `[T, 1]`, in place."""
    _compiled_gate(x, gate)
