"""A decoder's operations between its matrix products.

Here they are torch's; `kernels/operators.py` has fused ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


def _tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "relu": F.relu,
    "relu2": _squared_relu,
    "gelu": F.gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
}


class Operators(Protocol):
    """Operations on flat batches `[T, size]`.

    Results are new tensors unless stated otherwise.
    """

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / √(mean x² + eps) · weight over the last dimension.

        This is RMSNorm. The weight may be in float32 whatever x is.
        """
        ...

    def add_rms_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x += delta, in place; then `rms_norm` of it."""
        ...

    def layer_norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        """(x - mean x) / √(variance of x + eps) · weight + bias over the last dimension (Ba et al., 2016).

        Weight and bias may be missing, or in float32 whatever x is.
        """
        ...

    def add_layer_norm(self, x: Tensor, delta: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        """x += delta, in place; then `layer_norm` of it."""
        ...

    def gated(self, x: Tensor, activation: str) -> Tensor:
        """act(gate) · up `[T, size]`, for gate and up side by side.

        The input is `[T, 2 · size]` (GLU: Shazeer, "GLU variants", 2020).
        """
        ...

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """act(x)."""
        ...

    def route(self, scores: Tensor, count: int, *, normalized: bool) -> tuple[Tensor, Tensor]:
        """The `count` experts with the highest scores `[T, experts]`, and their weights in float32, both `[T, count]`.

        Weights are the softmax over all experts, or `normalized` over the chosen ones.
        """
        ...

    def gate_rows(self, x: Tensor, gate: Tensor) -> Tensor:
        """x · sigmoid(gate), in place, for a number of each row `[T, 1]`."""
        ...


class PlainOperators:
    """One torch operation after the other."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if weight.dtype is not x.dtype:
            return F.rms_norm(x.float(), weight.shape, weight, eps).to(x.dtype)
        return F.rms_norm(x, weight.shape, weight, eps)

    def add_rms_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self.rms_norm(x.add_(delta), weight, eps)

    def layer_norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        if weight is not None and weight.dtype is not x.dtype:
            return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps).to(x.dtype)
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def add_layer_norm(self, x: Tensor, delta: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        return self.layer_norm(x.add_(delta), weight, bias, eps)

    def gated(self, x: Tensor, activation: str) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return torch.mul(ACTIVATIONS[activation](gate), up)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        return ACTIVATIONS[activation](x)

    def route(self, scores: Tensor, count: int, *, normalized: bool) -> tuple[Tensor, Tensor]:
        highest, experts = scores.float().topk(count)
        if normalized:
            return experts, highest.softmax(-1)
        return experts, (highest - scores.float().logsumexp(-1, keepdim=True)).exp()

    def gate_rows(self, x: Tensor, gate: Tensor) -> Tensor:
        return x.mul_(gate.sigmoid())


PLAIN = PlainOperators()
