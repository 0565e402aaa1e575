"""RMSNorm against the decoder's own, and against float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from orcinus.errors import ConfigError
from orcinus.runtime.kernels.norm import MOST_SIZE, add_rms_norm, rms_norm

CASES = [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)]


@pytest.mark.parametrize("size", [1, 20, 64, 1000])
@pytest.mark.parametrize(("dtype", "bound"), CASES)
def test_equals_float64_and_torch(size: int, dtype: torch.dtype, bound: float) -> None:
    x, weight = torch.randn(3, size).to(dtype), torch.randn(size).to(dtype)
    ours = rms_norm(x, weight, 1e-5)
    truth = F.rms_norm(x.double(), (size,), weight.double(), 1e-5)
    assert (ours.double() - truth).norm() / truth.norm() < bound
    torch.testing.assert_close(ours, F.rms_norm(x, (size,), weight, 1e-5))


@pytest.mark.parametrize(("dtype", "bound"), CASES)
def test_adds_the_residual_first_and_keeps_the_sum(dtype: torch.dtype, bound: float) -> None:
    x, delta, weight = torch.randn(3, 48).to(dtype), torch.randn(3, 48).to(dtype), torch.randn(48).to(dtype)
    wanted = x + delta
    ours = add_rms_norm(x, delta, weight, 1e-5)
    assert torch.equal(x, wanted)
    torch.testing.assert_close(ours, F.rms_norm(wanted, (48,), weight, 1e-5))


def test_rows_may_be_strided_and_the_output_given() -> None:
    wide, weight = torch.randn(4, 40), torch.randn(20)
    out = torch.empty(4, 20)
    assert rms_norm(wide[:, :20], weight, 1e-5, out) is out
    torch.testing.assert_close(out, F.rms_norm(wide[:, :20], (20,), weight, 1e-5))


def test_the_narrow_sum_of_squares_does_not_overflow() -> None:
    x = torch.full((1, 16), 60000.0, dtype=torch.float16)
    assert torch.allclose(rms_norm(x, torch.ones(16, dtype=torch.float16), 1e-5), torch.ones(16, dtype=torch.float16))


def test_no_rows_and_too_long_rows() -> None:
    assert rms_norm(torch.empty(0, 8), torch.ones(8), 1e-5).shape == (0, 8)
    with pytest.raises(ConfigError, match="too long"):
        rms_norm(torch.empty(1, MOST_SIZE + 1), torch.empty(MOST_SIZE + 1), 1e-5)
