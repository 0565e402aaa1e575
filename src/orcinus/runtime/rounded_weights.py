"""Weights that are rounded when a model is loaded, to 4 or 8 bits in groups of 32 inputs (`quantization`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Self

import torch
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.cpu_kernels.dot_products import PORTABLE, instructions
from orcinus.runtime.cpu_kernels.int4_levels import GROUP, quantize_int4
from orcinus.runtime.gguf_levels import SYMMETRIC8, rounded_to_8_bits
from orcinus.runtime.grouped_weights import GroupedWeight, GroupGrid
from orcinus.runtime.linear_weight import Split


class RoundedWeight(GroupedWeight):
    """Base of such weights: a scale for each group of inputs."""

    __slots__ = ()
    option: ClassVar[str]  # that makes them
    other: ClassVar[str]  # what a mesh may use that cuts groups
    rounded: ClassVar[GroupGrid]

    @classmethod
    def quantize(cls, weight: Tensor, split: Split) -> Self:
        """The rounded copy of a weight `[outputs, inputs]`."""
        raise NotImplementedError

    @classmethod
    def ones(cls, outputs: int, inputs: int) -> Self:
        """A weight of ones, for measurements."""
        return cls.quantize(torch.ones(1, 1).expand(outputs, inputs), Split.columns(outputs))

    @staticmethod
    def check() -> None:
        """Every CPU can multiply them."""

    @classmethod
    def check_shards(cls, slices: Iterable[slice]) -> None:
        """Raise `ConfigError` if ranks would cut a group of inputs: the weights would not be those of one device."""
        for shard in slices:
            if shard.start % GROUP:
                raise ConfigError(
                    f"quantization {cls.option} rounds groups of {GROUP} inputs, and a rank's part would begin at input "
                    f"{shard.start}, inside one: choose another tp{cls.other}"
                )

    @classmethod
    def notes(cls) -> Iterator[str]:
        """A note on slow products, if Numba compiles for a CPU without suitable instructions."""
        if instructions() == PORTABLE:
            yield (
                f"quantization {cls.option}: kernels are compiled for a CPU without AVX2, so products may be several times "
                "slower than in float32; they take less memory"
            )

    @staticmethod
    def working_bytes(inputs: int, outputs: int, itemsize: int) -> float:
        """Bytes that a product adds for each row: its input as bytes, with a scale and two sums for each group."""
        del outputs, itemsize  # outputs are rounded as they are stored
        return inputs * (1 + 12 / GROUP)

    @classmethod
    def bytes_of(cls, shape: tuple[int, int]) -> int:
        """Bytes of the integers and scales of a weight."""
        return cls.rounded.bytes_of(shape)


class Int4Weight(RoundedWeight):
    """Weights of 4 bits, as in llama.cpp's format Q4_0 (ADR 49)."""

    __slots__ = ()
    option, other = "int4", ", or int8"
    rounded = GroupGrid(4, GROUP, torch.bfloat16)

    @classmethod
    def quantize(cls, weight: Tensor, split: Split) -> Self:
        levels, scales = quantize_int4(weight.detach())
        return cls.from_levels(levels, scales, None, split, group=GROUP)


class Rounded8(RoundedWeight):
    """Weights of 8 bits, as in llama.cpp's format Q8_0: of heads beside 4-bit layers, and of `int8` without AMX (ADR 78)."""

    __slots__ = ()
    option, other = "int8", ""
    rounded = SYMMETRIC8

    @classmethod
    def quantize(cls, weight: Tensor, split: Split) -> Self:
        return cls.from_levels(*rounded_to_8_bits(weight.detach()), split, group=GROUP, bits=8)
