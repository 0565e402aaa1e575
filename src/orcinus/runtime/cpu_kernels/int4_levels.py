"""Weights as 4-bit levels with a scale for each group of 32, the best of a few by squared error."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.compiled import exact, keep_compiled, reordered
from orcinus.runtime.cpu_kernels.elements import F32, array, load, rounded
from orcinus.runtime.cpu_kernels.quantized_rows import LARGEST, SMALLEST, WITHOUT_SIGN

GROUP, ZERO = 32, 8
STEPS = (F32(-7), F32(-7.5), F32(-8), F32(-8.5), F32(-9))  # levels that the largest weight of a group is tried at


@reordered(forceinline=True)
def _level(value):
    """The nearest of the numbers -8 to 7."""
    return min(max(np.floor(value + F32(0.5)), F32(-8)), F32(7))


@reordered
def _best_scale(values, like):
    """The scale of a group with the smallest squared error, as an element of the array `like`.

    Each of `STEPS` gives levels; the scale that suits them best (least squares) is rounded to 16 bits and tried. The values
    are left in units of the largest one.
    """
    low, high = F32(0), F32(0)
    for i in range(GROUP):
        low, high = min(low, values[i]), max(high, values[i])
    largest = high if high > -low else low
    for i in range(GROUP):
        values[i] /= largest
    best, least = rounded(F32(0), like), F32(1e30)
    for step in STEPS:
        products, squares = F32(0), F32(0)
        for i in range(GROUP):
            level = _level(values[i] * step)
            products += level * values[i]
            squares += level * level
        found = rounded(products / squares * largest, like)
        scale, error = load(found) / largest, F32(0)
        inverse = F32(1) / scale
        for i in range(GROUP):
            rest = values[i] - _level(values[i] * inverse) * scale
            error += rest * rest
        if error < least:
            best, least = found, error
    return best, largest


@exact
def _quantize_group(values, output, group, levels, scales):
    """A group of an output: its levels, and its scale."""
    most = np.int32(0)  # the bits of the largest absolute value: NaN counts as the largest
    for i in range(GROUP):
        most = np.int32(max(most, F32(values[i]).view(np.int32) & WITHOUT_SIGN))
    inverse = F32(0)
    if SMALLEST <= most <= LARGEST:
        scales[output, group], largest = _best_scale(values, scales)
        inverse = largest / load(scales[output, group])
    else:
        values[:] = F32(0)
        scales[output, group] = rounded(F32(0) if most < SMALLEST else F32(np.nan), scales)
    for i in range(min(GROUP, levels.shape[1] - group * GROUP)):
        levels[output, group * GROUP + i] = np.uint8(_level(values[i] * inverse) + F32(ZERO))


@exact(parallel=True)
def _quantize(weight, levels, scales):
    inputs = weight.shape[1]
    for number in numba.prange(len(weight)):
        output, values = np.int64(number), np.empty(GROUP, np.float32)
        for group in range(scales.shape[1]):
            begin = group * GROUP
            for i in range(GROUP):
                values[i] = load(weight[output, begin + i]) if begin + i < inputs else F32(0)
            _quantize_group(values, output, group, levels, scales)


_quantize = keep_compiled(_quantize)


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The levels `[outputs, inputs]`, 0 to 15 around 8, and scales `[outputs, groups]` of a weight.

    Scales are bfloat16. The weight is float32 or bfloat16; a group that is not finite has the scale NaN.
    """
    levels = torch.empty(weight.shape, dtype=torch.uint8)
    scales = torch.empty(len(weight), -(-weight.shape[1] // GROUP), dtype=torch.bfloat16)
    _quantize(array(weight), array(levels), array(scales))
    return levels, scales
