"""Integers of a checkpoint, with a scale and maybe a zero point for groups of inputs, on their way into products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from orcinus.errors import ConfigError, ModelError
from orcinus.runtime.cpu_kernels.grouped_rows import BLOCK
from orcinus.runtime.grouped_weights import GroupedWeight, GroupGrid
from orcinus.runtime.linear_weight import LinearWeight, Split
from orcinus.runtime.quant_methods.layout import Blocks, Grid
from orcinus.runtime.stored_format import StoredIntegers
from orcinus.runtime.weight_files import TensorHeader

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class GroupsFormat:
    """The format of layers that a checkpoint stores as integers in groups of inputs."""

    stored_bits: int
    group: int | None  # None: all inputs
    scales: torch.dtype
    zero_points: bool
    product: str = "int4"  # whose products these are, too

    @property
    def bits(self) -> int:
        """Bits of a level in memory."""
        return 4 if self.stored_bits <= 4 else 8

    @staticmethod
    def suits(grid: Grid, inputs: int) -> bool:
        """Whether numbers on this grid are exact in the format."""
        return not (grid.is_float or grid.irregular or (grid.group or inputs) % BLOCK)

    @classmethod
    def of(cls, grid: Grid, scales: str) -> GroupsFormat:
        """The format for a grid that suits, with scales of a dtype in safetensors' words."""
        return cls(grid.bits, grid.group, FLOATS.get(scales, torch.float32), grid.zero_points)

    def make(self, shape: tuple[int, int], split: Split, dtype: torch.dtype, device: torch.device) -> LinearWeight:
        """An empty weight."""
        del dtype
        outputs, inputs = shape
        grid = GroupGrid(self.bits, self.group or inputs, self.scales, torch.float32 if self.zero_points else None)
        table = outputs, inputs // grid.group
        tables = {"scale": torch.empty(table, dtype=self.scales, device=device)}
        if self.zero_points:
            tables["offset"] = torch.empty(table, dtype=torch.float32, device=device)
        weight = torch.empty(shape, dtype=torch.uint8, device=device)
        return StoredIntegers(weight, tables, split, grid.bytes_of(shape), partial(_pack, grid))

    def headers(self, shape: tuple[int, int]) -> dict[str, TensorHeader]:
        """Levels, and a scale (and an offset) for each group."""
        table = shape[0], shape[1] // (self.group or shape[1])
        scale = TensorHeader(next(name for name, dtype in FLOATS.items() if dtype is self.scales), table)
        found = {"weight": TensorHeader("U8", shape), "scale": scale}
        return found | ({"offset": TensorHeader("F32", table)} if self.zero_points else {})

    def check(self, blocks: Blocks) -> None:
        """Raise `ModelError` if the inputs of groups are no neighbours, or there are zero points that nothing announced."""
        if blocks.group_of_input is not None:
            raise ModelError("its inputs are ordered, but the settings do not say so")
        if not self.zero_points:
            blocks.check_symmetric(self.stored_bits)

    def integers(self, blocks: Blocks, codes: Tensor, rows: Tensor, columns: range) -> Tensor:
        """Levels."""
        return codes if self.zero_points else blocks.integers(codes, rows, columns).add_(2 ** (self.bits - 1))

    def table(self, kind: str, blocks: Blocks, rows: Tensor, columns: range) -> Tensor:
        """Scales or offsets `[rows, groups]`."""
        found = blocks.of_rows(blocks.scale, rows)
        if kind == "offset":
            assert blocks.zero is not None
            found = -found * blocks.of_rows(blocks.zero, rows)
        group = blocks.inputs
        return found if group is None else found[:, columns.start // group : -(-columns.stop // group)]

    def check_shards(self, slices: Iterable[slice]) -> None:
        """Raise `ConfigError` if ranks would cut a group of inputs."""
        group = self.group or BLOCK
        for shard in slices:
            if shard.start % group or shard.stop % group:
                raise ConfigError(
                    f"the checkpoint's integers have groups of {group} inputs, and a rank's part would be inputs {shard.start} "
                    f"to {shard.stop}, which cuts one: choose another tp"
                )


def _pack(grid: GroupGrid, weight: Tensor, tables: Mapping[str, Tensor], split: Split) -> LinearWeight:
    return GroupedWeight.from_levels(weight, tables["scale"], tables.get("offset"), split, group=grid.group, bits=grid.bits)
