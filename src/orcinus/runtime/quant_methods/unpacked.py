"""Matrices whose codes are a tensor `[outputs, inputs]` of 8-bit integers or floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.runtime.quant_methods.layout import FLOAT_NAMES, Blocks, Grid, Wanted, whole_groups
from orcinus.runtime.weight_files import TensorHeader

FLOAT8 = ("F8_E4M3",)
INT8 = ("I8",)


def is_narrow(headers: Mapping[str, TensorHeader], dtypes: tuple[str, ...]) -> bool:
    """Whether a module's weight has one of these dtypes."""
    return "weight" in headers and headers["weight"].dtype in dtypes


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Codes as they are, with a scale for the tensor, each output, each group of inputs or each block."""

    dtypes: tuple[str, ...]  # of the codes
    scale: str = "weight_scale"  # the tensor of scales
    group: int | None = None  # inputs that share a scale; None: all
    block_outputs: int = 1  # outputs that share scales
    zero_point: bool = False
    divisor: float = 1.0  # of the scales

    @property
    def grid(self) -> Grid:
        irregular = self.block_outputs > 1 or self.zero_point
        return Grid(8, self.group, is_float=self.dtypes == FLOAT8, irregular=irregular)

    def wanted(self, outputs: int, inputs: int) -> dict[str, Wanted]:
        blocked = self.block_outputs > 1  # the last block of a row or a column may be smaller
        groups = -(-inputs // (self.group or inputs)) if blocked else whole_groups(inputs, self.group)
        shapes: tuple[tuple[int, ...], ...] = ((-(-outputs // self.block_outputs), groups),)
        if self.group is None:
            shapes += ((outputs,), (1,), ())
        found = {
            "weight": Wanted(((outputs, inputs),), self.dtypes),
            self.scale: Wanted(shapes, (*FLOAT_NAMES, "F8_E8M0")),
        }
        if self.zero_point:
            found["weight_zero_point"] = Wanted(shapes, ("I8",))
        return found

    def codes(self, tensors: Mapping[str, Tensor], rows: Tensor, columns: range) -> Tensor:
        weight = tensors["weight"][:, columns.start : columns.stop]
        if weight.dtype.is_floating_point:  # torch indexes no 8-bit floats
            return weight.view(torch.uint8)[rows].view(weight.dtype)
        return weight[rows]

    def blocks(self, tensors: Mapping[str, Tensor], inputs: int) -> Blocks:
        del inputs
        scale = _table(tensors[self.scale]).div(self.divisor)
        zero = _table(tensors["weight_zero_point"]) if self.zero_point else None
        return Blocks(scale, zero, self.block_outputs, self.group)


def _table(tensor: Tensor) -> Tensor:
    """Scales or zero points `[outputs, groups]` in float32."""
    found = tensor.float()
    return found if found.dim() == 2 else found.reshape(-1, 1)
