"""Weights as 4-bit integers for CPUs, made when a model is loaded (`quantization="int4"`).

Groups of 32 inputs of an output share a scale, as in llama.cpp's format Q4_0, and so do groups of 32 activations of a row.
Products are our own kernel's (`cpu_kernels/int4_products.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.cpu_kernels.dot_products import PORTABLE, instructions
from orcinus.runtime.cpu_kernels.int4_products import (
    GROUP,
    GROUP_BYTES,
    TILE,
    PackedInt4,
    multiply_int4,
    pack_int4,
    packed_size,
)
from orcinus.runtime.linear_weight import PackedWeight, Split


@dataclass(frozen=True, slots=True)
class Int4Weight(PackedWeight):
    """A weight as packed 4-bit integers and a scale for each group of inputs."""

    packed: PackedInt4
    shape: tuple[int, int]
    split: Split

    @classmethod
    def quantize(cls, weight: Tensor, split: Split) -> Int4Weight:
        """The quantised copy of a weight `[outputs, inputs]`."""
        return cls(pack_int4(weight.detach()), (weight.shape[0], weight.shape[1]), split)

    @classmethod
    def ones(cls, outputs: int, inputs: int) -> Int4Weight:
        """A weight of ones, for measurements."""
        return cls.quantize(torch.ones(1, 1).expand(outputs, inputs), Split.columns(outputs))

    @staticmethod
    def check() -> None:
        """Every CPU can multiply them."""

    @staticmethod
    def check_shards(slices: Iterable[slice]) -> None:
        """Raise `ConfigError` if ranks would cut a group of inputs: the weights would not be those of one device."""
        for shard in slices:
            if shard.start % GROUP:
                raise ConfigError(
                    f"quantization int4 rounds groups of {GROUP} inputs, and a rank's part would begin at input {shard.start}, "
                    "inside one: choose another tp, or int8"
                )

    @staticmethod
    def notes() -> Iterator[str]:
        """A note on slow products, if Numba compiles for a CPU without suitable instructions."""
        if instructions() == PORTABLE:
            yield (
                "quantization int4: kernels are compiled for a CPU without AVX2, so products may be several times slower than "
                "in float32; they take less memory"
            )

    @staticmethod
    def working_bytes(inputs: int, outputs: int, itemsize: int) -> float:
        """Bytes that a product adds for each row: its input as bytes, with a scale and an offset for each group."""
        del outputs, itemsize  # outputs are rounded as they are stored
        return inputs * (1 + 8 / GROUP)

    @staticmethod
    def bytes_of(shape: tuple[int, int]) -> int:
        """Bytes of the integers and scales of a weight."""
        tiles, groups = packed_size(*shape)
        return tiles * groups * (GROUP_BYTES + 2 * TILE)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    @property
    def num_bytes(self) -> int:
        return self.bytes_of(self.shape)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x · weightᵀ + bias, with x quantised in groups of each row; rounded once to the dtype of x."""
        return multiply_int4(x, self.packed, bias, self.shape[0])
