"""Attention over K/V blocks: the one operation that looks at requests one by one. One backend a file, and one line here."""

from __future__ import annotations

from collections.abc import Callable

from orcinus.runtime.attention.cpu import CpuAttention
from orcinus.runtime.attention.port import Attention
from orcinus.runtime.attention.reference import ReferenceAttention

ATTENTION: dict[str, Callable[[], Attention]] = {
    "reference": ReferenceAttention,
    "cpu": CpuAttention,
}

__all__ = ["ATTENTION", "Attention", "CpuAttention", "ReferenceAttention"]
