"""The requirements of attention backends, checked before anything is loaded."""

from __future__ import annotations

import torch

from orcinus.distribution import how_to_install
from orcinus.errors import ConfigError
from orcinus.runtime import kernels

WITH_KERNELS = frozenset({"triton", "flash"})  # backends that come with kernels for all other operations of a GPU
FLASH_DTYPES = (torch.float16, torch.bfloat16)
FLASH_CAPABILITY = (8, 0)  # Ampere: FlashAttention-2 was written for its asynchronous copies
FLASH_HEAD_DIM = 256  # largest head size; it must be a multiple of 8, which are 16 bytes


def check(name: str, device: torch.device, dtype: torch.dtype, head_dim: int, soft_cap: float | None = None) -> None:
    """Raise `ConfigError` if a backend cannot run a model there.

    The message says what to choose.
    """
    if name == "cpu" and device.type != "cpu":
        raise ConfigError("attention backend 'cpu' needs device cpu: choose auto")
    if name in WITH_KERNELS:
        _kernels(name, device)
    if name == "flash":
        _flash(device, dtype, head_dim, soft_cap)


def _kernels(name: str, device: torch.device) -> None:
    if not kernels.available():
        raise ConfigError(
            f"attention backend {name!r} needs triton, which is not installed: {how_to_install('gpu')}, or choose auto"
        )
    if device.type == "cpu" and name == "flash":
        raise ConfigError("attention backend 'flash' needs device cuda: choose auto")
    if device.type == "cpu" and not kernels.interpreted():
        raise ConfigError(
            f"attention backend {name!r} needs device cuda, or TRITON_INTERPRET=1, slow and for tests: choose auto"
        )


def _flash(device: torch.device, dtype: torch.dtype, head_dim: int, soft_cap: float | None) -> None:
    """Check what torch's FlashAttention refuses only in the first prompt, or does not know."""
    if soft_cap is not None:
        raise ConfigError("attention backend 'flash' has no soft cap of scores, which this model needs: choose triton")
    if dtype not in FLASH_DTYPES:
        name = str(dtype).removeprefix("torch.")
        raise ConfigError(f"attention backend 'flash' computes no {name}: choose dtype bfloat16, or triton")
    if head_dim > FLASH_HEAD_DIM or head_dim % 8:
        raise ConfigError(
            f"attention backend 'flash' takes head sizes of 8, 16, … {FLASH_HEAD_DIM}, not {head_dim}: choose triton"
        )
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < FLASH_CAPABILITY:
        raise ConfigError(
            f"attention backend 'flash' needs compute capability 8.0, and {device} has {major}.{minor}: choose triton"
        )
