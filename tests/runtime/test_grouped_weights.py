"""Weights of 4 and 8 bits on any grid: products of exactly the numbers that levels, scales and offsets stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orcinus.runtime.grouped_weights import GroupedWeight, GroupGrid
from orcinus.runtime.linear_weight import Split
from tests.product import part
from tests.runtime.grouped import matrix_of, rounded_rows

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
GRIDS = {
    "Q4_0": GroupGrid(4, 32, F16),
    "Q4_1": GroupGrid(4, 32, F16, F16),
    "Q8_0": GroupGrid(8, 32, F16),
    "Q4_K": GroupGrid(4, 32, F32, F32),
    "AWQ": GroupGrid(4, 128, F16, F32),
    "groups of 64": GroupGrid(4, 64, BF16, F32),
    "W8A16": GroupGrid(8, 128, BF16),
}


def drawn(grid: GroupGrid, outputs: int, inputs: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Levels, scales and offsets of a weight."""
    torch.manual_seed(0)
    levels, groups = torch.randint(1 << grid.bits, (outputs, inputs), dtype=torch.uint8), -(-inputs // grid.group)
    scales = torch.rand(outputs, groups) + 0.1
    return levels, scales.to(grid.scales), None if grid.offsets is None else torch.randn(outputs, groups).to(grid.offsets)


def matrix(grid: GroupGrid, levels: Tensor, scales: Tensor, offsets: Tensor | None) -> Tensor:
    """The numbers that they stand for."""
    each, most = (lambda given: given.float().repeat_interleave(grid.group, 1)[:, : levels.shape[1]]), 1 << grid.bits - 1
    return each(scales) * (levels.float() - most) if offsets is None else each(scales) * levels + each(offsets)


@pytest.mark.parametrize("name", part("Q4_1", "AWQ", full=[*GRIDS]))
def test_products_are_those_of_the_given_numbers(name: str) -> None:
    grid = GRIDS[name]
    for shape in ((16, 128), (37, 300), (1, 5)):
        given = drawn(grid, *shape)
        weight = GroupedWeight.from_levels(*given, Split.columns(shape[0]), group=grid.group, bits=grid.bits)
        expected = matrix(grid, *given)
        assert torch.equal(matrix_of(weight), expected), "nothing is rounded"
        assert weight.num_bytes == weight.packed.nbytes == grid.bytes_of(shape)
        for rows in (0, 1, 15):
            x = torch.randn(rows, shape[1])
            found, exact = weight.multiply(x, None), rounded_rows(x).double() @ expected.double().t()
            torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=3e-5 * 2**grid.bits)


@pytest.mark.parametrize("name", part("Q8_0", full=["Q5_1"]))
def test_the_largest_levels_do_not_saturate(name: str) -> None:
    offsets = torch.zeros(16, 3, dtype=F16) if name == "Q5_1" else None
    for level in (0, 255):
        levels = torch.full((16, 96), level, dtype=torch.uint8)
        weight = GroupedWeight.from_levels(levels, torch.ones(16, 3, dtype=F16), offsets, Split.columns(16), group=32, bits=8)
        number = level - 128 if offsets is None else level
        for sign in (1, -1):
            found = weight.multiply(torch.full((3, 96), 127.0 * sign), None)
            assert torch.equal(found, torch.full((3, 16), 96.0 * 127 * sign * number))


def test_a_zero_point_is_an_offset() -> None:
    levels, scales, _ = drawn(GRIDS["AWQ"], 16, 256)
    zeros = torch.randint(16, scales.shape)
    weight = GroupedWeight.from_levels(levels, scales, -scales.float() * zeros, Split.columns(16), group=128)
    expected = scales.float().repeat_interleave(128, 1) * (levels.float() - zeros.repeat_interleave(128, 1))
    torch.testing.assert_close(matrix_of(weight), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", part("AWQ", full=[*GRIDS]))
def test_a_row_has_the_same_bits_whatever_is_multiplied_beside_it(name: str) -> None:
    grid = GRIDS[name]
    weight = GroupedWeight.from_levels(*drawn(grid, 96, 256), Split.columns(96), group=grid.group, bits=grid.bits)
    x = torch.randn(40, 256)
    together = weight.multiply(x, None)
    for rows in (1, 2, 3, 7, 39):
        assert torch.equal(weight.multiply(x[:rows], None), together[:rows])


def test_float16_is_widened_where_the_processor_does_not_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given, grid = drawn(GRIDS["Q4_1"], 20, 64), GRIDS["Q4_1"]
    usual = GroupedWeight.from_levels(*given, Split.columns(20), group=32)
    monkeypatch.setattr("orcinus.runtime.grouped_weights.reads_float16", lambda: False)
    wide = GroupedWeight.from_levels(*given, Split.columns(20), group=32)
    x = torch.randn(3, 64)
    assert torch.equal(usual.multiply(x, None), wide.multiply(x, None))
    assert wide.num_bytes == wide.packed.nbytes == grid.bytes_of((20, 64))
