"""Operators of CPUs against torch's own in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orcinus.runtime.cpu_kernels.elements import MANY
from orcinus.runtime.cpu_kernels.operators import CpuOperators
from orcinus.runtime.operators import ACTIVATIONS, PLAIN

OURS = CpuOperators()
SHAPES = [(0, 8), (1, 5), (7, 96), (MANY // 96 + 1, 96)]  # the last one is work for all threads
TOLERANCE = {torch.float32: 4e-6, torch.bfloat16: 8e-3}


def error(found: Tensor, truth: Tensor) -> float:
    """Largest difference, as a share of the number and at least of one."""
    return float(((found.double() - truth).abs() / truth.abs().clamp(min=1)).max()) if found.numel() else 0.0


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_norms(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, delta = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    weight = torch.rand(shape[1]).to(dtype) + 0.5
    truth = PLAIN.rms_norm(x.double(), weight.double(), 1e-5)
    assert error(OURS.rms_norm(x, weight, 1e-5), truth) <= TOLERANCE[dtype]
    total = x + delta
    found = OURS.add_rms_norm(x, delta, weight, 1e-5)
    assert x.equal(total)  # the residual stream, in place
    assert error(found, PLAIN.rms_norm(total.double(), weight.double(), 1e-5)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gated_activations(activation: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for rows, size in SHAPES:
        x = (torch.randn(rows, 2 * size) * 6).to(dtype)
        assert error(OURS.gated(x, activation), PLAIN.gated(x.double(), activation)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("activation", ["silu", "gelu_new"])
def test_activations_of_numbers_far_from_zero(activation: str) -> None:
    gate = torch.tensor([[-1e30, -1e4, -100.0, -0.0, 0.0, 100.0, 1e4, 1e30]])
    found = OURS.gated(torch.cat((gate, torch.ones_like(gate)), dim=1), activation)
    assert found.equal(gate.clamp(min=0))
