"""Attention over K/V blocks: one backend a file, and one line here."""

from __future__ import annotations

from collections.abc import Callable

import torch

from orcinus.errors import ConfigError
from orcinus.runtime import kernels
from orcinus.runtime.attention.cpu import CpuAttention
from orcinus.runtime.attention.port import Attention, Heads
from orcinus.runtime.attention.reference import ReferenceAttention
from orcinus.runtime.attention.requirements import WITH_KERNELS, check
from orcinus.runtime.cpu_kernels.operators import CpuOperators
from orcinus.runtime.operators import PLAIN, Operators


def _triton() -> Attention:
    from orcinus.runtime.attention.triton import TritonAttention  # needs triton

    return TritonAttention()


def _flash() -> Attention:
    from orcinus.runtime.attention.flash import FlashAttention

    return FlashAttention()


ATTENTION: dict[str, Callable[[], Attention]] = {
    "reference": ReferenceAttention,
    "cpu": CpuAttention,
    "triton": _triton,
    "flash": _flash,
}


def choose_backend(asked: str, device: torch.device) -> str:
    """The backend of this name; `auto` is a device's fastest. Raises `ConfigError` if it is unknown."""
    if asked == "auto":
        return "cpu" if device.type == "cpu" else "triton" if kernels.available() else "reference"
    if asked not in ATTENTION:
        raise ConfigError(f"unknown attention backend {asked!r}: choose auto, {', '.join(ATTENTION)}")
    return asked


def operators_of(attention: str) -> Operators:
    """The operators that go with an attention backend."""
    if attention == "cpu":
        return CpuOperators()
    if attention not in WITH_KERNELS:
        return PLAIN
    from orcinus.runtime.kernels.operators import FusedOperators

    return FusedOperators()


__all__ = [
    "ATTENTION",
    "WITH_KERNELS",
    "Attention",
    "CpuAttention",
    "Heads",
    "ReferenceAttention",
    "check",
    "choose_backend",
    "operators_of",
]
