"""Memory in huge pages: zeros, asked for where they are large enough."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from orcinus.runtime import huge_pages
from orcinus.runtime.huge_pages import PAGE, zeros


def flags(tensor: Tensor) -> list[str]:
    """What the kernel says of the mapping that holds a tensor."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            begin, end = (int(number, 16) for number in first.split("-"))
            inside = begin <= tensor.data_ptr() < end
        elif inside and first == "VmFlags:":
            return rest
    raise AssertionError("no mapping holds the tensor")


@pytest.mark.parametrize("shape", [(0, 3), (7,), (3, PAGE // 4 + 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_zeros_of_every_size(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = zeros(shape, dtype)
    assert found.equal(torch.zeros(shape, dtype=dtype))
    assert found.is_contiguous()
    assert found.fill_(3).eq(3).all()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own words for it")
def test_large_memory_asks_for_huge_pages() -> None:
    large, small = zeros((PAGE,), torch.float32), zeros((8,), torch.float32)
    assert "hg" in flags(large)
    assert "hg" not in flags(small)


def test_without_huge_pages_memory_is_plain(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "orcinus")
    monkeypatch.setattr(huge_pages.mmap, "MADV_HUGEPAGE", 12345, raising=False)  # advice that no kernel knows
    assert not zeros((PAGE,), torch.float32).any()
    assert "no huge pages" in caplog.text
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    assert not zeros((PAGE,), torch.float32).any()
