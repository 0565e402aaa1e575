"""The Triton backend against the reference and against the formula in float64, norms, rotation and padding included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.runtime.attention import ReferenceAttention
from orcinus.runtime.attention.triton import TritonAttention
from tests.examples import examples
from tests.product import part
from tests.runtime.gpu.batches import MIXED, SIZES, Case, nothing_else_was_written, run, truth, written

WINDOWS = st.sampled_from([None, 1, 5, 16, 33])


@examples(10)
@given(SIZES, WINDOWS, st.booleans(), st.booleans(), st.booleans())
def test_random_ragged_batches(
    sizes: list[tuple[int, int]], window: int | None, normed: bool, rotated: bool, padded: bool
) -> None:
    """Equal to the formula and to the reference, whatever room a captured graph leaves for padding."""
    case = Case(sizes, window, kv_heads=1, normed=normed, rotated=rotated)
    ours = run(TritonAttention(), case, padded=padded)
    assert ours.error(truth(case)) < 1e-5
    assert ours.error(run(ReferenceAttention(), case)) < 1e-5
    assert nothing_else_was_written(case, ours)


@pytest.mark.parametrize(
    ("kv_heads", "group", "dim", "block_size"), [(1, 1, 2, 1), (2, 4, 64, 16), (3, 1, 80, 5), (1, 8, 128, 16)]
)
def test_geometries(kv_heads: int, group: int, dim: int, block_size: int) -> None:
    case = Case([(0, 1), (7, 1), (9, 4), (0, 6), (3, 1)], None, block_size, kv_heads, group, dim)
    assert run(TritonAttention(), case).error(truth(case)) < 1e-5


@pytest.mark.parametrize(("dtype", "bound"), part((torch.bfloat16, 1e-2), full=[(torch.float16, 2e-3)]))
def test_narrow_dtypes(dtype: torch.dtype, bound: float) -> None:
    case = Case([(0, 1), (37, 1), (30, 4)], kv_heads=1, dim=64, dtype=dtype)
    assert run(TritonAttention(), case, padded=True).error(truth(case)) < bound


def test_the_batch_s_own_keys_and_values_are_where_the_reference_puts_them() -> None:
    case = Case(MIXED)
    ours, theirs = run(TritonAttention(), case, padded=True), run(ReferenceAttention(), case)
    assert torch.allclose(ours.kv.keys, theirs.kv.keys, atol=1e-5)
    assert torch.equal(ours.kv.values, theirs.kv.values)
    assert written(case).sum() == sum(count for _, count in MIXED)


@pytest.mark.parametrize("sizes", [[(5, 1), (60, 1)], [(5, 3), (0, 9)]], ids=["decodes alone", "chunks alone"])
def test_padding_changes_no_result(sizes: list[tuple[int, int]]) -> None:
    case = Case(sizes, dim=32)
    ours, alone = run(TritonAttention(), case, padded=True), run(TritonAttention(), case)
    assert ours.error(alone) < 1e-6  # contexts are cut into shares by the longest that may come, so not bit by bit
    assert torch.equal(ours.kv.keys, alone.kv.keys)
    assert nothing_else_was_written(case, ours)
