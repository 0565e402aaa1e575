"""Memory in huge pages: zeros, asked for where they are large enough."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from orcinus.runtime import huge_pages
from orcinus.runtime.executor import out_of_memory
from orcinus.runtime.huge_pages import PAGE, populate, zeros

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own words for it")


def told(tensor: Tensor, what: str) -> list[str]:
    """What the kernel says of the mapping that holds a tensor."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            begin, end = (int(number, 16) for number in first.split("-"))
            inside = begin <= tensor.data_ptr() < end
        elif inside and first == f"{what}:":
            return rest
    raise AssertionError("no mapping holds the tensor")


@pytest.mark.parametrize("shape", [(0, 3), (7,), (3, PAGE // 4 + 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_zeros_of_every_size(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = zeros(shape, dtype)
    assert found.equal(torch.zeros(shape, dtype=dtype))
    assert found.is_contiguous()
    assert found.fill_(3).eq(3).all()


@LINUX
def test_large_memory_asks_for_huge_pages() -> None:
    large, small = zeros((PAGE,), torch.float32), zeros((8,), torch.float32)
    assert "hg" in told(large, "VmFlags")
    assert "hg" not in told(small, "VmFlags")


def test_without_huge_pages_memory_is_plain(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "orcinus")
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345, raising=False)  # advice that no kernel knows
    assert not zeros((PAGE,), torch.float32).any()
    assert "no huge pages" in caplog.text
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    assert not zeros((PAGE,), torch.float32).any()


def provided(tensor: Tensor) -> int:
    """Bytes that the system has provided of the mapping that holds a tensor, and maybe its neighbours in memory."""
    number, unit = told(tensor, "Rss")
    assert unit == "kB"
    return 1024 * int(number)


@LINUX
def test_memory_is_provided_before_it_is_written() -> None:
    memory = zeros((2, 9 * PAGE + 4096), torch.uint8)
    memory[1, 5] = 7
    before = provided(memory)  # one page, and what others have
    thread = populate([memory[0], memory[1]])
    assert thread is not None
    thread.join()
    assert provided(memory) - before >= memory.nbytes - 2 * PAGE
    assert memory[1, 5] == 7
    assert memory.sum() == 7


def test_memory_that_the_system_does_not_have_is_short_memory() -> None:
    with pytest.raises(MemoryError) as raised:
        zeros((2**60,), torch.uint8)
    assert out_of_memory(raised.value)


def test_small_memory_and_other_systems_need_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert populate([zeros((8,), torch.float32)]) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert populate([zeros((PAGE,), torch.float32)]) is None


@LINUX
def test_memory_that_is_gone_ends_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "orcinus")
    memory = mmap.mmap(-1, 2 * PAGE)
    address = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
    memory.close()
    huge_pages._populate([(address, PAGE), (address + PAGE, PAGE)])
    assert caplog.text.count("memory is provided as it is written") == 1
