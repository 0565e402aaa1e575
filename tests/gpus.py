"""A GPU that is not there: as much of it as a plan asks for."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

MIB = 2**20


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, free: int, total: int | None = None, **idle: int) -> None:
    """Let torch report one GPU with `free` MiB; `idle` gives torch's own `reserved` and `allocated` MiB."""

    def bytes_of(name: str) -> Any:
        return lambda device=None: idle.get(name, 0) * MIB

    for name, answer in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: "a GPU of dreams",
        "get_device_capability": lambda device=None: (9, 0),
        "mem_get_info": lambda device=None: (free * MIB, (total or free) * MIB),
        "memory_reserved": bytes_of("reserved"),
        "memory_allocated": bytes_of("allocated"),
        "device": lambda device: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
