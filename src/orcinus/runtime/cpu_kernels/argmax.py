"""The likeliest token of each row, and whether the row is finite, in one pass."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from orcinus.runtime.compiled import keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, array, load

LANES = 16  # running maxima side by side, which LLVM turns into vectors


def argmax(logits: Tensor) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Per row of `logits` `[S, vocab_size]`: the first of its largest ones, and whether all are finite.

    The token of a row that is not finite means nothing.
    """
    tokens, finite = np.empty(len(logits), np.int64), np.empty(len(logits), np.bool_)
    _argmax(array(logits), tokens, finite)
    return tokens, finite


@numba.njit(parallel=True, error_model="numpy")
def _argmax(logits, tokens, finite):
    size = logits.shape[1]
    whole = size // LANES * LANES
    for row in numba.prange(len(logits)):
        peaks, wrong = np.full(LANES, F32(-np.inf)), np.zeros(LANES, np.float32)
        for begin in range(0, whole, LANES):
            for lane in range(LANES):
                x = load(logits[row, begin + lane])
                wrong[lane] += x - x  # 0, but NaN for NaN and infinities
                peaks[lane] = max(peaks[lane], x)
        peak, damage = F32(-np.inf), F32(0)
        for lane in range(LANES):
            peak, damage = max(peak, peaks[lane]), damage + wrong[lane]
        for at in range(whole, size):
            x = load(logits[row, at])
            peak, damage = max(peak, x), damage + (x - x)
        finite[row] = damage == 0
        tokens[row] = 0
        for at in range(size):
            if load(logits[row, at]) == peak:
                tokens[row] = at
                break


_argmax = keep_compiled(_argmax)
