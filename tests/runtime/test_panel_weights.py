"""Weights in panels: the same products, and bits that depend on nothing but a row."""

from __future__ import annotations

import numba
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from orcinus.runtime.linear_weight import Split
from orcinus.runtime.models import PlainWeight
from orcinus.runtime.packed_weights import packed_format
from orcinus.runtime.panel_weights import PanelWeight, can_use_panels

pytestmark = pytest.mark.skipif(not can_use_panels("cpu", torch.float32), reason="this processor has no vectors for panels")
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_use_panels("cpu", dtype)]
ROWS = (0, 1, 2, 11, 12, 13, 25, 200, 530)  # the last ones are packed, and the last one in two calls


def packed(weight: Tensor) -> PanelWeight:
    return PanelWeight.pack(PlainWeight(weight, Split.columns(len(weight))))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(16, 8), (1, 1), (7, 13), (130, 65), (512, 96), (32, 2)], ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_products_are_the_same(dtype: torch.dtype, shape: tuple[int, int], biased: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape).to(dtype)
    bias = torch.randn(shape[0]).to(dtype) if biased else None
    for rows in ROWS:
        x = torch.randn(rows, shape[1]).to(dtype)
        found = packed(weight).multiply(x, bias)
        exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
        assert (found.shape, found.dtype) == (exact.shape, dtype)
        tolerance = 1e-5 if dtype is torch.float32 else 2**-8  # half a unit in the last place, and the sums' own rounding
        torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_has_the_same_bits_in_every_batch_and_with_any_threads(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, x = packed(torch.randn(70, 1537).to(dtype)), torch.randn(ROWS[-1], 1537).to(dtype)
    alone = torch.cat([weight.multiply(row, None) for row in x.split(1)])
    for rows in ROWS[1:]:
        assert torch.equal(weight.multiply(x[-rows:], None), alone[-rows:])
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert torch.equal(weight.multiply(x, None), alone)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_that_are_not_contiguous(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, wide = packed(torch.randn(24, 16).to(dtype)), torch.randn(5, 40).to(dtype)
    assert torch.equal(weight.multiply(wide[:, 3:19], None), weight.multiply(wide[:, 3:19].clone(), None))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_not_finite_stays_in_its_row(dtype: torch.dtype) -> None:
    x = torch.ones(3, 8, dtype=dtype)
    x[0, 0], x[1, 7] = torch.inf, torch.nan
    found = packed(torch.ones(40, 8, dtype=dtype)).multiply(x, None)
    assert torch.equal(found[0], torch.full((40,), torch.inf, dtype=dtype))
    assert found[1].isnan().all()
    assert torch.equal(found[2], torch.full((40,), 8, dtype=dtype))


def test_only_a_cpu_with_the_vectors_has_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packed_format("cpu", torch.float32) is PanelWeight
    assert packed_format("cuda", torch.float32) is None
    assert not can_use_panels("cpu", torch.float16)
    for features, dtype, expected in [
        ({"avx2"}, torch.float32, False),  # no multiply-add
        ({"avx2", "fma"}, torch.bfloat16, True),
        ({"avx2", "fma", "amx-bf16"}, torch.float32, True),
        ({"avx2", "fma", "amx-bf16"}, torch.bfloat16, False),
    ]:
        monkeypatch.setattr("orcinus.runtime.panel_weights.has", features.__contains__)
        assert can_use_panels.__wrapped__("cpu", dtype) is expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_segments_of_rows_are_multiplied_by_their_own_weights(dtype: torch.dtype) -> None:
    """To the bit what each product alone gives, with any number of threads."""
    torch.manual_seed(0)
    counts = [1, 17, 2, 5]
    weights, x = [packed(torch.randn(70, 13).to(dtype)) for _ in counts], torch.randn(sum(counts), 13).to(dtype)
    alone = torch.cat([weight.multiply(rows, None) for weight, rows in zip(weights, torch.split(x, counts), strict=True)])
    threads = numba.get_num_threads()
    try:
        for some in {1, threads}:
            numba.set_num_threads(some)
            assert torch.equal(PanelWeight.multiply_segments(weights, x, counts), alone)
    finally:
        numba.set_num_threads(threads)
