"""Matrices whose codes are packed into 32-bit words, with scales and zero points for groups of inputs.

`PackedRows` is compressed-tensors' pack-quantized; `Gptq` is AutoGPTQ's and GPTQModel's layout; `Awq` is AutoAWQ's gemm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.errors import ModelError
from orcinus.runtime.quant_methods.layout import Blocks, Grid, Wanted, checked_groups, whole_groups
from orcinus.runtime.quant_methods.unpack import unpack, unpack_span

WORD = 32
INT32 = ("I32",)
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # the place of each of eight neighbouring outputs in a word (AutoAWQ's gemm)


def _words(count: int, bits: int) -> int:
    """Words of so many numbers; the last one may be partly empty."""
    return -(-count * bits // WORD)


@dataclass(frozen=True, slots=True)
class PackedRows:
    """`weight_packed` `[outputs, words of inputs]`; zero points are packed along outputs."""

    bits: int
    group: int | None = None
    symmetric: bool = True
    per_tensor: bool = False
    ordered_by_activation: bool = False  # the inputs of a group are no neighbours

    @property
    def scale(self) -> str:
        return "weight_scale"

    @property
    def grid(self) -> Grid:
        return Grid(self.bits, self.group, zero_points=not self.symmetric, irregular=self.ordered_by_activation)

    def wanted(self, outputs: int, inputs: int) -> dict[str, Wanted]:
        groups = whole_groups(inputs, self.group)
        scales: tuple[tuple[int, ...], ...] = ((1,), (1, 1), ()) if self.per_tensor else ((outputs, groups),)
        found = {
            "weight_packed": Wanted(((outputs, _words(inputs, self.bits)),), INT32),
            "weight_scale": Wanted(scales),
            "weight_g_idx": Wanted(((inputs,),), INT32, optional=True),
        }
        if not self.symmetric:
            found["weight_zero_point"] = Wanted(((_words(outputs, self.bits), groups),), INT32)
        return found

    def codes(self, tensors: Mapping[str, Tensor], rows: Tensor, columns: range) -> Tensor:
        return unpack_span(tensors["weight_packed"][rows], self.bits, columns)

    def blocks(self, tensors: Mapping[str, Tensor], inputs: int) -> Blocks:
        scale = tensors["weight_scale"].float()
        scale = scale if scale.dim() == 2 else scale.reshape(-1, 1)
        order = tensors.get("weight_g_idx")
        if order is not None and int(order.min()) == -1:  # written by old versions where there is no order
            order = None
        if self.symmetric:
            zero = torch.full_like(scale, 2 ** (self.bits - 1))
        else:
            zero = unpack(tensors["weight_zero_point"].t(), self.bits).t()[: len(scale)].float()
        return Blocks(scale, zero, 1, self.group, None if order is None else checked_groups(order, scale.shape[1]))


@dataclass(frozen=True, slots=True)
class Gptq:
    """`qweight` `[words of inputs, outputs]`, `qzeros` `[groups, words of outputs]`, `scales` `[groups, outputs]`."""

    bits: int
    group: int | None
    symmetric: bool = True
    ordered: bool = True
    first_version: bool = True  # which stores zero points less 1

    @property
    def scale(self) -> str:
        return "scales"

    @property
    def grid(self) -> Grid:
        return Grid(self.bits, self.group, zero_points=not self.symmetric, irregular=not self.ordered)

    def wanted(self, outputs: int, inputs: int) -> dict[str, Wanted]:
        groups = whole_groups(inputs, self.group)
        return {
            "qweight": Wanted(((_words(inputs, self.bits), outputs),), INT32),
            "qzeros": Wanted(((groups, _words(outputs, self.bits)),), INT32),
            "scales": Wanted(((groups, outputs),)),
            "g_idx": Wanted(((inputs,),), INT32, optional=self.ordered),
        }

    def codes(self, tensors: Mapping[str, Tensor], rows: Tensor, columns: range) -> Tensor:
        return unpack_span(tensors["qweight"][:, rows].t(), self.bits, columns)

    def blocks(self, tensors: Mapping[str, Tensor], inputs: int) -> Blocks:
        scale = tensors["scales"].float().t()
        zero = unpack(tensors["qzeros"], self.bits)[:, : len(scale)].t()
        if self.first_version:
            zero = (zero + 1) & (2**self.bits - 1)
        order = None
        if "g_idx" in tensors and scale.shape[1] > 1:
            order = checked_groups(tensors["g_idx"], scale.shape[1])
            plain = torch.arange(inputs) // (self.group or inputs)
            if order.equal(plain):
                order = None
            elif self.ordered:
                raise ModelError("g_idx orders the inputs, but config.json says desc_act false: set it true")
        return Blocks(scale, zero.float(), 1, self.group, order)


@dataclass(frozen=True, slots=True)
class Awq:
    """`qweight` `[inputs, words of outputs]`, `qzeros` `[groups, words of outputs]`, `scales` `[groups, outputs]`."""

    group: int | None
    bits: int = 4

    @property
    def scale(self) -> str:
        return "scales"

    @property
    def grid(self) -> Grid:
        return Grid(self.bits, self.group, zero_points=True)

    def wanted(self, outputs: int, inputs: int) -> dict[str, Wanted]:
        groups, words = whole_groups(inputs, self.group), whole_groups(outputs, WORD // self.bits, "outputs")
        return {
            "qweight": Wanted(((inputs, words),), INT32),
            "qzeros": Wanted(((groups, words),), INT32),
            "scales": Wanted(((groups, outputs),)),
        }

    def codes(self, tensors: Mapping[str, Tensor], rows: Tensor, columns: range) -> Tensor:
        return _interleaved(tensors["qweight"][columns.start : columns.stop], rows).t()

    def blocks(self, tensors: Mapping[str, Tensor], inputs: int) -> Blocks:
        del inputs
        scale = tensors["scales"].float().t()
        return Blocks(scale, _interleaved(tensors["qzeros"], torch.arange(len(scale))).t().float(), 1, self.group)


def _interleaved(words: Tensor, outputs: Tensor) -> Tensor:
    """The 4-bit numbers of some outputs, from words `[rows, words of all outputs]`: uint8 `[rows, outputs]`."""
    shifts = 4 * torch.tensor(AWQ_ORDER)[outputs % 8]
    return ((words[:, outputs // 8] >> shifts.to(torch.int32)) & 15).to(torch.uint8)
