"""What packed levels stand for, and rows as products round them."""

from __future__ import annotations

import torch
from torch import Tensor

from orcinus.runtime.cpu_kernels.grouped_rows import BLOCK
from orcinus.runtime.grouped_weights import GroupedWeight


def matrix_of(weight: GroupedWeight) -> Tensor:
    """The matrix that a packed weight stands for."""
    outputs, inputs = weight.shape
    stored, grid = torch.from_numpy(weight.packed.levels).view(torch.uint8), weight.grid
    tiles, blocks = stored.shape[:2]
    loads = stored.view(tiles, blocks, grid.bits, 16, 4)
    levels = loads if grid.bits == 8 else torch.cat((loads & 15, loads >> 4), dim=2)
    levels = levels.permute(0, 3, 1, 2, 4).reshape(tiles * 16, blocks * BLOCK)[:outputs, :inputs]
    scales, offsets = (None if each is None else _of_inputs(torch.from_numpy(each), weight) for each in weight.packed[1:])
    assert scales is not None
    return scales * (levels.float() - (1 << grid.bits - 1)) if offsets is None else scales * levels + offsets


def _of_inputs(stored: Tensor, weight: GroupedWeight) -> Tensor:
    """Scales or offsets of tiles, for each output and input."""
    kinds = {torch.uint16: torch.bfloat16, torch.int16: torch.float16}
    numbers = stored.view(kinds.get(stored.dtype, stored.dtype)).float().transpose(1, 2).flatten(0, 1)
    return numbers.repeat_interleave(weight.grid.group, 1)[: weight.shape[0], : weight.shape[1]]


def rounded_rows(x: Tensor) -> Tensor:
    """Rows as the kernel rounds them: 8 bits, with a scale for each block."""
    padded = torch.nn.functional.pad(x.float(), (0, -x.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    largest = padded.abs().amax(dim=2, keepdim=True)
    levels = (padded * torch.where(largest > 0, torch.full_like(largest, 127) / largest, 0)).round()
    return (levels * largest / 127).flatten(1)[:, : x.shape[1]]
