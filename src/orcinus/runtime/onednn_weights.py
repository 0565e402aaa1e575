"""Weights in the layout that oneDNN multiplies fastest on a CPU.

Products of few rows are most of the work of serving on a CPU, and each reads a whole weight. In oneDNN's own layout products of
eight rows are 2.4 to 5.4 times as fast as torch's plain ones in float32, and 1.3 to 2.4 times in bfloat16 (docs/log.md).
torch's compiler uses the same operators for linear layers on CPUs; if this torch lacks them, weights stay plain. Where
`panel_weights` is as fast, it is used instead (`packed_weights`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from orcinus.runtime.linear_weight import LinearWeight, PackedWeight, Split

ROWS = 8  # rows to optimise the layout for: a batch of decodes; it is no slower with hundreds of rows


@cache
def can_prepack(device: str, dtype: torch.dtype) -> bool:
    """Whether products with prepacked weights work here; tries a small one."""
    if device != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        weight = torch.eye(16, dtype=dtype)
        return bool((multiply(weight, prepack(weight), None) == weight).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def prepack(weight: Tensor) -> Tensor:
    """A prepacked copy of a weight `[outputs, inputs]`; only `multiply` reads it."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
    return packed


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x · weightᵀ + bias, `[rows, inputs]` -> `[rows, outputs]`."""
    if not len(x):  # which oneDNN refuses
        return x.new_empty(0, packed.shape[0])
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return product


@dataclass(frozen=True, slots=True)
class OneDNNWeight(PackedWeight):
    """A weight in oneDNN's layout."""

    packed: Tensor
    shape: tuple[int, int]
    split: Split

    @classmethod
    def pack(cls, weight: LinearWeight) -> OneDNNWeight:
        """A packed copy of a plain weight."""
        return cls(prepack(weight.tensors()["weight"]), weight.shape, weight.split)

    @property
    def dtype(self) -> torch.dtype:
        return self.packed.dtype

    @property
    def num_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return multiply(x, self.packed, bias)
