"""8-bit integers of a checkpoint, with a scale for each output, on their way into products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.runtime.int8_weights import FULL, Int8Weight, largest_int8
from orcinus.runtime.linear_weight import LinearWeight, Split
from orcinus.runtime.quant_methods.layout import Blocks, Grid
from orcinus.runtime.stored_format import StoredIntegers
from orcinus.runtime.weight_files import TensorHeader


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
        scale = torch.empty(shape[0], dtype=torch.float32, device=device)
        return StoredIntegers(weight, {"scale": scale}, split, Int8Weight.bytes_of(shape), _pack)

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


def _pack(weight: Tensor, tables: Mapping[str, Tensor], split: Split) -> LinearWeight:
    return Int8Weight.pack(weight, tables["scale"], split)
