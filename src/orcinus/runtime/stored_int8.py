"""8-bit integers of a checkpoint on their way into products, without being rounded again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from orcinus.runtime.int8_weights import FULL, Int8Weight, largest_int8
from orcinus.runtime.linear_weight import LinearWeight, Split
from orcinus.runtime.quant_methods.layout import Blocks, Grid
from orcinus.runtime.weight_files import TensorHeader


@dataclass(frozen=True, slots=True)
class StoredInt8:
    """Integers `[outputs, inputs]` and scales `[outputs]`, to be filled."""

    weight: Tensor
    scale: Tensor
    split: Split

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return torch.int8

    @property
    def num_bytes(self) -> int:
        return Int8Weight.bytes_of(self.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "scale": self.scale}

    def split_dim(self, name: str) -> int | None:
        return None if name == "scale" and self.split.dim else self.split.dim

    def part(self, name: str, part: int | None) -> Tensor:
        tensor, span = self.tensors()[name], self.split.span(part)
        if not self.split.dim:
            return tensor[span]
        return tensor if name == "scale" else tensor[:, span]

    def process_after_loading(self) -> LinearWeight:
        return Int8Weight.pack(self.weight, self.scale, self.split)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, (self.weight * self.scale[:, None]).to(x.dtype), bias)


@dataclass(frozen=True, slots=True)
class Int8Format:
    """The format of layers that a checkpoint stores as 8-bit integers with a scale for each output."""

    product: str = "int8"

    @staticmethod
    def suits(grid: Grid) -> bool:
        """Whether numbers on this grid are exact in the format, and this processor multiplies them."""
        plain = grid.bits == 8 and grid.group is None and not (grid.is_float or grid.zero_points)
        return plain and not grid.irregular and largest_int8() == FULL

    def make(self, shape: tuple[int, int], split: Split, dtype: torch.dtype, device: torch.device) -> LinearWeight:
        """An empty weight."""
        del dtype
        weight = torch.empty(shape, dtype=torch.int8, device=device)
        return StoredInt8(weight, torch.empty(shape[0], dtype=torch.float32, device=device), split)

    def headers(self, shape: tuple[int, int]) -> dict[str, TensorHeader]:
        """Integers, and a scale for each output."""
        return {"weight": TensorHeader("I8", shape), "scale": TensorHeader("F32", shape[:1])}

    def check(self, blocks: Blocks) -> None:
        """Raise `ModelError` if there are zero points."""
        blocks.check_symmetric(8)

    def integers(self, blocks: Blocks, codes: Tensor, rows: Tensor, columns: range) -> Tensor:
        """Signed integers."""
        return blocks.integers(codes, rows, columns)

    def table(self, kind: str, blocks: Blocks, rows: Tensor, columns: range) -> Tensor:
        """Scales `[rows]`."""
        del kind, columns
        return blocks.of_rows(blocks.scale, rows)[:, 0]

    def check_shards(self, slices: Iterable[slice]) -> None:
        """Ranks may split inputs anywhere."""
