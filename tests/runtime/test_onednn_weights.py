"""Weights in the layout of the CPU: the same products, and no weight twice but a tied embedding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from orcinus.runtime.onednn_weights import can_prepack, multiply, prepack

pytestmark = pytest.mark.skipif(not can_prepack("cpu", torch.float32), reason="this torch has no packed products")
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_prepack("cpu", dtype)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(16, 8), (1, 1), (7, 13), (130, 65), (512, 96)], ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_products_are_the_same(dtype: torch.dtype, shape: tuple[int, int], biased: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape).to(dtype)
    bias = torch.randn(shape[0]).to(dtype) if biased else None
    packed = prepack(weight)
    for rows in (0, 1, 2, 8, 33, 200):
        x = torch.randn(rows, shape[1]).to(dtype)
        found, expected = (
            multiply(x, packed, bias),
            F.linear(x.double(), weight.double(), None if bias is None else bias.double()),
        )
        assert found.shape == expected.shape
        assert found.dtype is dtype
        torch.testing.assert_close(found.double(), expected, rtol=1e-4 if dtype is torch.float32 else 2e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_that_are_not_contiguous(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, wide = torch.randn(24, 16).to(dtype), torch.randn(5, 40).to(dtype)
    torch.testing.assert_close(
        multiply(wide[:, 3:19], prepack(weight), None), F.linear(wide[:, 3:19], weight), rtol=2e-2, atol=2e-2
    )


def test_a_graphics_processor_packs_nothing() -> None:
    assert not can_prepack("cuda", torch.float32)


def test_a_torch_without_the_operators_keeps_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orcinus.runtime.onednn_weights.prepack", lambda weight: (_ for _ in ()).throw(AttributeError("no such operator"))
    )
    can_prepack.cache_clear()
    try:
        assert not can_prepack("cpu", torch.float32)
    finally:
        can_prepack.cache_clear()
