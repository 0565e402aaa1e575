"""Weights as 4-bit integers for CPUs, made when a model is loaded (`quantization="int4"`).

Groups of 32 inputs of an output share a scale, as in llama.cpp's format Q4_0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

import torch
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.cpu_kernels.dot_products import PORTABLE, instructions
from orcinus.runtime.cpu_kernels.int4_levels import GROUP, quantize_int4
from orcinus.runtime.grouped_weights import GroupedWeight, GroupGrid
from orcinus.runtime.linear_weight import Split


class Int4Weight(GroupedWeight):
    """A weight rounded to 4 bits, with a scale for each group of inputs."""

    __slots__ = ()

    @classmethod
    def quantize(cls, weight: Tensor, split: Split) -> Self:
        """The quantised copy of a weight `[outputs, inputs]`."""
        levels, scales = quantize_int4(weight.detach())
        return cls.from_levels(levels, scales, None, split, group=GROUP)

    @classmethod
    def ones(cls, outputs: int, inputs: int) -> Self:
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
        """Bytes that a product adds for each row: its input as bytes, with a scale and two sums for each group."""
        del outputs, itemsize  # outputs are rounded as they are stored
        return inputs * (1 + 12 / GROUP)

    @staticmethod
    def bytes_of(shape: tuple[int, int]) -> int:
        """Bytes of the integers and scales of a weight."""
        return GroupGrid(4, GROUP, torch.bfloat16).bytes_of(shape)
