"""A decoder's operators on a CPU: one pass over each row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.cpu_kernels.elements import MANY, array
from orcinus.runtime.cpu_kernels.gated import KINDS, activated, activated_of_many, gated, gated_of_many
from orcinus.runtime.cpu_kernels.norm import add_rms_norm, add_rms_norm_of_many, rms_norm, rms_norm_of_many
from orcinus.runtime.cpu_kernels.routing import gate_rows, route


class CpuOperators:
    """Numba kernels: a row's bits do not depend on its place. torch's do, as it computes the end of a tensor in another way."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x)
        kernel = rms_norm_of_many if x.numel() >= MANY else rms_norm
        kernel(array(x), array(weight.data), np.float32(eps), array(out))
        return out

    def add_rms_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x)
        kernel = add_rms_norm_of_many if x.numel() >= MANY else add_rms_norm
        kernel(array(x), array(delta), array(weight.data), np.float32(eps), array(out))
        return out

    def gated(self, x: Tensor, activation: str) -> Tensor:
        out = x.new_empty(len(x), x.shape[1] // 2)
        kernel = gated_of_many if x.numel() >= MANY else gated
        kernel(array(x), array(out), KINDS[activation])
        return out

    def activated(self, x: Tensor, activation: str) -> Tensor:
        out = torch.empty_like(x)
        kernel = activated_of_many if x.numel() >= MANY else activated
        kernel(array(x), array(out), KINDS[activation])
        return out

    def route(self, scores: Tensor, count: int, *, normalized: bool) -> tuple[Tensor, Tensor]:
        experts, weights = torch.empty(len(scores), count, dtype=torch.int64), torch.empty(len(scores), count)
        route(array(scores), experts.numpy(), weights.numpy(), normalized)
        return experts, weights

    def gate_rows(self, x: Tensor, gate: Tensor) -> Tensor:
        gate_rows(array(x), array(gate))
        return x
