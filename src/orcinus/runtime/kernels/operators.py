"""A decoder's operators, fused: fewer launches, one pass over each row."""

from __future__ import annotations

from torch import Tensor

from orcinus.runtime.kernels.norm import MOST_SIZE, add_rms_norm, rms_norm
from orcinus.runtime.kernels.silu_mul import GATES, act_mul
from orcinus.runtime.operators import PLAIN


class FusedOperators:
    """Triton kernels; torch for very long rows and rare activations."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return rms_norm(x, weight, eps) if x.shape[-1] <= MOST_SIZE else PLAIN.rms_norm(x, weight, eps)

    def add_rms_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        fits = x.shape[-1] <= MOST_SIZE
        return add_rms_norm(x, delta, weight, eps) if fits else PLAIN.add_rms_norm(x, delta, weight, eps)

    def layer_norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        return PLAIN.layer_norm(x, weight, bias, eps)

    def add_layer_norm(self, x: Tensor, delta: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        return PLAIN.add_layer_norm(x, delta, weight, bias, eps)

    def gated(self, x: Tensor, activation: str) -> Tensor:
        return act_mul(x, activation) if activation in GATES else PLAIN.gated(x, activation)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        return PLAIN.activated(x, activation)

    def route(self, scores: Tensor, count: int, *, normalized: bool) -> tuple[Tensor, Tensor]:
        return PLAIN.route(scores, count, normalized=normalized)

    def gate_rows(self, x: Tensor, gate: Tensor) -> Tensor:
        return PLAIN.gate_rows(x, gate)
