"""A decoder's operators on a CPU: one pass over each row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.cpu_kernels.elements import MANY, array
from orcinus.runtime.cpu_kernels.gated import KINDS, gated_kernel
from orcinus.runtime.cpu_kernels.norm import add_rms_norm, add_rms_norm_of_many, rms_norm, rms_norm_of_many
from orcinus.runtime.operators import PLAIN


class CpuOperators:
    """Numba kernels; torch for rare activations."""

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
        if activation not in KINDS:
            return PLAIN.gated(x, activation)
        out = x.new_empty(len(x), x.shape[1] // 2)
        gated_kernel(KINDS[activation], many=x.numel() >= MANY)(array(x), array(out))
        return out
