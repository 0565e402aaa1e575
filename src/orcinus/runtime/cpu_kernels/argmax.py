"""The likeliest token of each row that is finite, in one pass."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np
from torch import Tensor

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels.elements import F32, array, load

BLOCK = 512  # logits whose largest one is found before it is compared with the others
LEAST, WITHOUT_SIGN, INFINITE = np.int32(-(2**31)), np.int32(0x7FFFFFFF), np.int32(0x7F800000)


def argmax(logits: Tensor) -> list[int]:
    """Per row of `logits` `[S, vocab_size]` the first of its largest ones; -1 if not all are finite."""
    tokens = np.empty(len(logits), np.int64)
    _argmax(array(logits), tokens)
    found: list[int] = tokens.tolist()
    return found


@exact(forceinline=True)
def _bits(x):
    """A number's bits, -0 as 0."""
    return np.float32(load(x) + F32(0)).view(np.int32)


@exact(forceinline=True)
def _in_order(bits):
    """Bits as an integer that is in the numbers' order: LLVM makes vectors of maxima of integers, not of floats."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & WITHOUT_SIGN))


@exact
def _row_argmax(row):
    """The first of the largest numbers `[size]`; -1 if not all are finite."""
    peak, place, largest = LEAST, 0, np.int32(0)
    for begin in range(0, len(row), BLOCK):
        block, top = row[begin : min(begin + BLOCK, len(row))], LEAST
        for i in range(len(block)):
            bits = _bits(block[i])
            largest = max(largest, np.int32(bits & WITHOUT_SIGN))
            top = max(top, _in_order(bits))
        if top > peak:
            peak, place = top, begin
    while place < len(row) - 1 and _in_order(_bits(row[place])) != peak:
        place += 1
    return place if largest < INFINITE else -1  # NaNs are larger


row_argmax = external(_row_argmax)


@exact(parallel=True)
def _argmax(logits, tokens):
    for row in numba.prange(len(logits)):
        tokens[row] = row_argmax(logits[row])


_argmax = keep_compiled(_argmax)
