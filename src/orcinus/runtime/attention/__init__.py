"""Attention over K/V blocks: the one operation that looks at requests one by one. One backend a file, and one line here."""

from __future__ import annotations

from collections.abc import Callable

from orcinus.runtime.attention.cpu import CpuAttention
from orcinus.runtime.attention.port import Attention, Heads
from orcinus.runtime.attention.reference import ReferenceAttention


def _triton() -> Attention:
    from orcinus.runtime.attention.triton import TritonAttention  # which only a machine that has triton can import

    return TritonAttention()


ATTENTION: dict[str, Callable[[], Attention]] = {
    "reference": ReferenceAttention,
    "cpu": CpuAttention,
    "triton": _triton,
}

__all__ = ["ATTENTION", "Attention", "CpuAttention", "Heads", "ReferenceAttention"]
