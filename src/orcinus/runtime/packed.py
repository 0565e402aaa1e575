"""Weights in the layout in which oneDNN multiplies them fastest on a CPU.

Products of few rows are most of what serving on a CPU computes, and each reads a whole weight. In oneDNN's own layout those
of eight rows are 2.4 to 5.4 times as fast as torch's plain ones in float32, and 1.3 to 2.4 times in bfloat16 (docs/log.md).
The operators are those that torch's compiler makes of linear layers for CPUs; where a torch lacks them, weights stay as they
are.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

ROWS = 8  # for which the layout is chosen: a batch of decodes; hundreds of rows are no slower with it


@cache
def can_pack(device: str, dtype: torch.dtype) -> bool:
    """Whether products with packed weights work here, tried on a small one."""
    if device != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        weight = torch.eye(16, dtype=dtype)
        return bool((multiply(weight, pack(weight), None) == weight).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def pack(weight: Tensor) -> Tensor:
    """A copy of a weight `[outputs, inputs]` that only `multiply` can read."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
    return packed


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x · weightᵀ + bias, `[rows, inputs]` -> `[rows, outputs]`."""
    if not len(x):  # which oneDNN refuses
        return x.new_empty(0, packed.shape[0])
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return product
