"""A decoder's operators on a CPU: one pass over each row."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orcinus.runtime.cpu_kernels.elements import MANY, array
from orcinus.runtime.cpu_kernels.gated import KINDS, activated, activated_of_many, gated, gated_of_many
from orcinus.runtime.cpu_kernels.norm import LAYER, RMS, add_normalize, add_normalize_many, normalize, normalize_many
from orcinus.runtime.cpu_kernels.routing import gate_rows, route

NormArrays: TypeAlias = "tuple[int, NDArray[Any], NDArray[Any]]"  # as kernels take a norm


def rms_norm_arrays(weight: Tensor) -> NormArrays:
    """RMSNorm for kernels."""
    numbers = array(weight.data)
    return RMS, numbers, numbers


def layer_norm_arrays(size: int, weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> NormArrays:
    """LayerNorm for kernels; `dtype` is that of a weight if there is none."""
    dtype = dtype if weight is None else weight.dtype
    return (
        LAYER,
        array(_filled(size, 1.0, dtype) if weight is None else weight.data),
        array(_filled(size, 0.0, dtype) if bias is None else bias.data),
    )


@cache
def _filled(size: int, number: float, dtype: torch.dtype) -> Tensor:
    return torch.full((size,), number, dtype=dtype)


def _normalized(x: Tensor, norm: NormArrays, eps: float) -> Tensor:
    out = torch.empty_like(x)
    kernel = normalize_many if x.numel() >= MANY else normalize
    kernel(array(x), norm, np.float32(eps), array(out))
    return out


def _added_and_normalized(x: Tensor, delta: Tensor, norm: NormArrays, eps: float) -> Tensor:
    out = torch.empty_like(x)
    kernel = add_normalize_many if x.numel() >= MANY else add_normalize
    kernel(array(x), array(delta), norm, np.float32(eps), array(out))
    return out


class CpuOperators:
    """Numba kernels: a row's bits do not depend on its place. torch's do, as it computes the end of a tensor in another way."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return _normalized(x, rms_norm_arrays(weight), eps)

    def add_rms_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        return _added_and_normalized(x, delta, rms_norm_arrays(weight), eps)

    def layer_norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        return _normalized(x, layer_norm_arrays(x.shape[1], weight, bias, x.dtype), eps)

    def add_layer_norm(self, x: Tensor, delta: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        return _added_and_normalized(x, delta, layer_norm_arrays(x.shape[1], weight, bias, x.dtype), eps)

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
