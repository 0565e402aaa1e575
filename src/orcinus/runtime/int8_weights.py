"""Weights as 8-bit integers for CPUs, made when a model is loaded (`quantization="int8"`).

A weight has a scale for each output, an activation one for each row (LLM.int8(): Dettmers et al., 2022; ZeroQuant: Yao et al.,
2022), so that a request's numbers do not depend on the rest of its batch. Products are oneDNN's, exact sums of integers.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.cpu_kernels.elements import ZERO
from orcinus.runtime.cpu_kernels.quantized_rows import quantize_rows
from orcinus.runtime.linear_weight import PackedWeight, Split
from orcinus.runtime.onednn_weights import ROWS

NO_ZERO_POINT = torch.zeros(1, dtype=torch.int64)  # of weights
FULL, REDUCED = 127, 63  # largest weights: 8 bits, or 7, where sums of two products saturate at 16 bits
AT_ONCE = 2**18  # numbers that are converted at once: they are in float32 meanwhile


@cache
def largest_int8() -> int:
    """The largest weight whose products are exact on this CPU: 127, or 63 without VNNI; 0 if there are none.

    It tries the worst case, because CPUs without VNNI add two products in 16 bits and saturate.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):  # oneDNN may compute them hundreds of times slower than floats
        return 0
    return next((largest for largest in (FULL, REDUCED) if _is_exact(largest)), 0)


def _is_exact(largest: int) -> bool:
    size = 512
    try:
        packed = _prepack(torch.full((size, size), largest, dtype=torch.int8))
        for rows in (1, 4 * ROWS):
            x = torch.full((rows, size), ZERO + 127, dtype=torch.uint8)
            if not (_product(x, packed, torch.ones(size)) == 127 * largest * size).all():
                return False
    except (AttributeError, RuntimeError, NotImplementedError):  # this torch has other operators, or none
        return False
    return True


def _prepack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, [ROWS, weight.shape[1]])
    return packed


def _product(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """(x - ZERO) · weightᵀ · scales in float32, `[rows, inputs]` -> `[rows, outputs]`."""
    product: Tensor = torch.ops.onednn.qlinear_pointwise(
        x, 1.0, ZERO, packed, scales, NO_ZERO_POINT, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return product


def quantize_weight(weight: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """A weight `[outputs, inputs]` as integers up to `largest`, and the scales `[outputs]` in float32."""
    integers, scales = torch.empty(weight.shape, dtype=torch.int8), torch.empty(len(weight))
    step = max(1, AT_ONCE // max(1, weight.shape[1]))
    for first in range(0, len(weight), step):
        some = weight[first : first + step].float()
        scale = some.abs().amax(dim=1).div_(largest)
        scales[first : first + step] = scale
        integers[first : first + step] = (some / scale.clamp_min(1e-36)[:, None]).round_()
    return integers, scales


@dataclass(frozen=True, slots=True)
class Int8Weight(PackedWeight):
    """A weight as packed integers and a scale for each output."""

    packed: Tensor
    scales: Tensor  # [outputs], float32
    shape: tuple[int, int]
    split: Split

    @classmethod
    def quantize(cls, weight: Tensor, split: Split) -> Int8Weight:
        """The quantised copy of a weight `[outputs, inputs]`. Raises `ConfigError` if this CPU cannot multiply it."""
        cls.check()
        return cls.pack(*quantize_weight(weight.detach(), largest_int8()), split)

    @classmethod
    def pack(cls, integers: Tensor, scales: Tensor, split: Split) -> Int8Weight:
        """Integers `[outputs, inputs]`, at most `largest_int8()`, with their scales `[outputs]` in float32."""
        return cls(_prepack(integers), scales, (integers.shape[0], integers.shape[1]), split)

    @classmethod
    def ones(cls, outputs: int, inputs: int) -> Int8Weight:
        """A weight of ones, for measurements."""
        packed = _prepack(torch.ones(outputs, inputs, dtype=torch.int8))
        return cls(packed, torch.ones(outputs), (outputs, inputs), Split.columns(outputs))

    @staticmethod
    def check() -> None:
        """Raise `ConfigError` if this CPU or torch cannot multiply 8-bit integers."""
        if not largest_int8():
            raise ConfigError(
                "quantization int8 needs oneDNN's products of 8-bit integers on an x86 processor, and this machine or torch "
                "has none: leave it out, or use int4"
            )

    @staticmethod
    def check_shards(slices: Iterable[slice]) -> None:
        """Ranks may split inputs anywhere: each rounds its own part."""

    @staticmethod
    def notes() -> Iterator[str]:
        """A note on weights of 7 bits, if this CPU needs them."""
        if largest_int8() == REDUCED:
            yield (
                "quantization int8: this CPU has no dot products of 8-bit integers (VNNI), so weights keep 7 bits to stay "
                "exact, and products of few rows may be slower than in float32"
            )

    @staticmethod
    def working_bytes(inputs: int, outputs: int, itemsize: int) -> float:
        """Bytes that a product adds for each row: its input as bytes, and a narrower format's output in float32 first."""
        return inputs + (4 * outputs if itemsize < 4 else 0)

    @staticmethod
    def bytes_of(shape: tuple[int, int]) -> int:
        """Bytes of the integers and scales of a weight."""
        return shape[0] * (shape[1] + torch.float32.itemsize)

    @property
    def dtype(self) -> torch.dtype:
        return torch.int8

    @property
    def num_bytes(self) -> int:
        return self.bytes_of(self.shape)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x · weightᵀ + bias, with x quantised row by row; rounded once to the dtype of x."""
        if not len(x):  # which oneDNN refuses
            return x.new_empty(0, self.shape[0])
        rows, scales = quantize_rows(x)
        product = _product(rows, self.packed, self.scales).mul_(scales[:, None])
        return (product if bias is None else product.add_(bias)).to(x.dtype)
