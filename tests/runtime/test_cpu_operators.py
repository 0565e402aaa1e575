"""Operators of CPUs against torch's own in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orcinus.runtime.cpu_kernels.argmax import BLOCK, argmax
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
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parameters", ["", "weight", "weight and bias", "both in float32"])
def test_layer_norms(shape: tuple[int, int], dtype: torch.dtype, parameters: str) -> None:
    torch.manual_seed(0)
    x, delta = (torch.randn(shape) * 2 + 3).to(dtype), torch.randn(shape).to(dtype)
    of_norm = torch.float32 if "float32" in parameters else dtype
    weight = torch.rand(shape[1]).to(of_norm) + 0.5 if parameters else None
    bias = torch.randn(shape[1]).to(of_norm) if "b" in parameters else None
    exact = [None if each is None else each.double() for each in (weight, bias)]
    truth = PLAIN.layer_norm(x.double(), *exact, 1e-5)
    assert error(OURS.layer_norm(x, weight, bias, 1e-5), truth) <= TOLERANCE[dtype]
    assert error(PLAIN.layer_norm(x, weight, bias, 1e-5), truth) <= TOLERANCE[dtype]
    total = x + delta
    found = OURS.add_layer_norm(x, delta, weight, bias, 1e-5)
    assert x.equal(total)
    assert error(found, PLAIN.layer_norm(total.double(), *exact, 1e-5)) <= TOLERANCE[dtype]


def test_the_norm_of_a_row_far_from_zero() -> None:
    """The mean is taken away before numbers are squared: the difference of two large sums would lose all digits."""
    x = torch.tensor([[4096.0, 4097.0, 4096.0, 4097.0] * 12])
    assert OURS.layer_norm(x, None, None, 0.0).equal(torch.tensor([[-1.0, 1.0, -1.0, 1.0] * 12]))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gated_activations(activation: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for rows, size in SHAPES:
        x = (torch.randn(rows, 2 * size) * 6).to(dtype)
        assert error(OURS.gated(x, activation), PLAIN.gated(x.double(), activation)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_without_a_gate(activation: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for rows, size in SHAPES:
        x = (torch.randn(rows, size) * 6).to(dtype)
        truth = PLAIN.activated(x.double(), activation)
        assert error(OURS.activated(x, activation), truth) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [5, 96, 1030])
def test_a_row_has_the_same_bits_alone_and_among_many(size: int, dtype: torch.dtype) -> None:
    """One thread computes few rows, all threads many; and a row's place does not matter."""
    torch.manual_seed(0)
    rows = MANY // size + 2
    x, delta, weight = (torch.randn(count, 2 * size).to(dtype) for count in (rows, rows, 1))

    def every(place: slice) -> list[Tensor]:
        gates = [operator(x[place], each) for each in ACTIVATIONS for operator in (OURS.gated, OURS.activated)]
        norms = OURS.rms_norm(x[place], weight[0], 1e-5), OURS.add_rms_norm(x[place].clone(), delta[place], weight[0], 1e-5)
        layer_norm = OURS.add_layer_norm(x[place].clone(), delta[place], weight[0], weight[0], 1e-5)
        return [*gates, *norms, OURS.layer_norm(x[place], weight[0], None, 1e-5), layer_norm]

    many = every(slice(None))
    for row in (0, 1, rows - 1):
        assert all(one.equal(all_[row : row + 1]) for one, all_ in zip(every(slice(row, row + 1)), many, strict=True))


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_new"])
def test_activations_of_numbers_far_from_zero(activation: str) -> None:
    gate = torch.tensor([[-1e30, -1e4, -100.0, -0.0, 0.0, 100.0, 1e4, 1e30]])
    found = OURS.gated(torch.cat((gate, torch.ones_like(gate)), dim=1), activation)
    assert found.equal(gate.clamp(min=0))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [1, 5, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_the_likeliest_token_is_the_first_of_the_largest(size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rows = torch.stack((torch.randn(size), -torch.rand(size) - 1, torch.zeros(size), torch.randint(0, 3, (size,)).float())).to(
        dtype
    )
    rows[2, : size // 2] = -0.0  # equal to 0, so the first wins
    assert argmax(rows) == [int((row == row.max()).nonzero()[0, 0]) for row in rows.float()]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("place", [0, BLOCK + 3, 2 * BLOCK])
def test_rows_that_are_not_finite_are_found(place: int, dtype: torch.dtype) -> None:
    logits = torch.zeros(6, 2 * BLOCK + 1, dtype=dtype)
    for row, poison in enumerate((torch.nan, -torch.nan, torch.inf, -torch.inf, torch.finfo(dtype).max)):
        logits[row, place] = poison
    assert argmax(logits) == [-1] * 4 + [place, 0]
