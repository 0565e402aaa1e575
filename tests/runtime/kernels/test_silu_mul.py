"""Gated activations against torch's."""

from __future__ import annotations

import pytest
import torch

from orcinus.errors import ConfigError
from orcinus.runtime.kernels.silu_mul import GATES, act_mul
from orcinus.runtime.operators import ACTIVATIONS


@pytest.mark.parametrize("act", GATES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("size", [3, 1500])
def test_equals_float64(act: str, dtype: torch.dtype, bound: float, size: int) -> None:
    x = (3 * torch.randn(3, 2 * size)).to(dtype)
    gate, up = x.double().chunk(2, dim=-1)
    truth = ACTIVATIONS[act](gate) * up
    ours = act_mul(x, act)
    assert ours.dtype is dtype
    assert (ours.double() - truth).norm() / truth.norm() < bound


def test_far_from_zero_it_is_all_or_nothing() -> None:
    x = torch.tensor([[200.0, -80.0, 2.0, 2.0]])
    assert torch.allclose(act_mul(x), torch.tensor([[400.0, 0.0]]))


def test_an_activation_without_a_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="silu, swish"):
        act_mul(torch.zeros(1, 2), "relu")


def test_no_rows() -> None:
    assert act_mul(torch.empty(0, 8)).shape == (0, 4)
