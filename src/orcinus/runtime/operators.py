"""What a decoder computes between its matrix products: in torch here, fused in `kernels/operators.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


def _tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
}


class Operators(Protocol):
    """Operations on flat batches `[T, size]`; results are new tensors unless said otherwise."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / √(mean x² + eps) · weight over the last dimension (RMSNorm)."""
        ...

    def add_rms_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x += delta, in place; then `rms_norm` of it."""
        ...

    def gated(self, x: Tensor, activation: str) -> Tensor:
        """act(gate) · up `[T, size]` of gate and up side by side (GLU).

        The input is `[T, 2 · size]` (Shazeer, "GLU variants", 2020).
        """
        ...


class PlainOperators:
    """One torch operation after the other."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, eps)

    def add_rms_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self.rms_norm(x.add_(delta), weight, eps)

    def gated(self, x: Tensor, activation: str) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return torch.mul(ACTIVATIONS[activation](gate), up)


PLAIN = PlainOperators()
