"""Weights of 4 or 8 bits for CPUs, whose groups of inputs have a scale and maybe an offset.

They hold what quantised files do: GGUF's Q4_0, Q4_1 and Q8_0, AWQ, GPTQ. Products are our own kernel's
(`cpu_kernels/grouped_products.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from orcinus.runtime.cpu_kernels.elements import array
from orcinus.runtime.cpu_kernels.grouped_products import (
    TILE,
    PackedLevels,
    multiply_groups,
    pack_levels,
    packed_size,
    reads_float16,
)
from orcinus.runtime.cpu_kernels.grouped_rows import BLOCK
from orcinus.runtime.linear_weight import PackedWeight, Split


@dataclass(frozen=True, slots=True)
class GroupGrid:
    """The numbers that a quantised weight may have: `scale · (level - 2^(bits - 1))`, or `scale · level + offset`."""

    bits: int  # of a level: 4 or 8
    group: int  # inputs of an output that share a scale: a multiple of 32
    scales: torch.dtype
    offsets: torch.dtype | None = None

    def __post_init__(self) -> None:
        assert self.bits in (4, 8)
        assert self.group % BLOCK == 0

    def bytes_of(self, shape: tuple[int, int]) -> int:
        """Bytes of a weight of this shape."""
        tiles, groups = packed_size(*shape, self.group)
        each = sum(stored(dtype).itemsize for dtype in (self.scales, self.offsets) if dtype is not None)
        return tiles * TILE * groups * (self.group * self.bits // 8 + each)


def stored(dtype: torch.dtype) -> torch.dtype:
    """The dtype in memory of scales and offsets: float16 becomes float32 on processors that do not read it."""
    return torch.float32 if dtype is torch.float16 and not reads_float16() else dtype


@dataclass(frozen=True, slots=True)
class GroupedWeight(PackedWeight):
    """A weight as packed levels, with a scale and maybe an offset for each group of inputs."""

    packed: PackedLevels
    grid: GroupGrid
    shape: tuple[int, int]
    split: Split

    @classmethod
    def from_levels(
        cls, levels: Tensor, scales: Tensor, offsets: Tensor | None, split: Split, *, group: int, bits: int = 4
    ) -> Self:
        """The weight of levels `[outputs, inputs]`, and scales and offsets `[outputs, groups]`.

        Levels are uint8 below 2^bits, scales and offsets bfloat16, float16 or float32. Nothing is rounded. Without offsets a
        weight is `scale · (level - 2^(bits - 1))`, with them `scale · level + offset`: zero points have offsets -scale · zero.
        """
        grid = GroupGrid(bits, group, scales.dtype, None if offsets is None else offsets.dtype)
        kept = None if offsets is None else offsets.to(stored(offsets.dtype))
        packed = pack_levels(levels, scales.to(stored(scales.dtype)), kept, group, bits)
        return cls(packed, grid, (levels.shape[0], levels.shape[1]), split)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    @property
    def num_bytes(self) -> int:
        return self.grid.bytes_of(self.shape)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x · weightᵀ + bias, with x rounded to 8 bits in blocks of 32 inputs; rounded once to the dtype of x."""
        out = torch.empty(len(x), self.shape[0], dtype=x.dtype)
        multiply_groups(array(x), *self.arguments(bias), array(out))
        return out

    def arguments(self, bias: Tensor | None) -> tuple[Any, ...]:
        """The weight and a bias, as kernels take them."""
        return self.packed.arguments(bias)

    def rows(self, outputs: Tensor) -> Tensor:
        """The weights `[n, inputs]` of some outputs, in float32: those of an embedding that the head is."""
        tiles, lanes = outputs // TILE, outputs % TILE
        stored = torch.from_numpy(self.packed.levels).view(torch.uint8)
        loads = stored.view(*stored.shape[:2], self.grid.bits, TILE, 4)[tiles, :, :, lanes]  # [n, blocks, bits, 4]
        levels = loads if self.grid.bits == 8 else torch.cat((loads & 15, loads >> 4), dim=2)
        scales, offsets = (None if each is None else _numbers(each)[tiles, :, lanes] for each in self.packed[1:])
        assert scales is not None
        grouped = levels.reshape(len(outputs), scales.shape[1], self.grid.group).float()
        if offsets is None:
            made = grouped.sub_(1 << self.grid.bits - 1).mul_(scales[:, :, None])
        else:
            made = grouped.mul_(scales[:, :, None]).add_(offsets[:, :, None])
        return made.flatten(1)[:, : self.shape[1]]


def _numbers(stored: NDArray[Any]) -> Tensor:
    """Scales or offsets, as kernels take them, in float32."""
    found = torch.from_numpy(stored)
    return found.view({torch.uint16: torch.bfloat16, torch.int16: torch.float16}.get(found.dtype, found.dtype)).float()
