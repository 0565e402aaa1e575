"""The choice of device and number format."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import torch

from orcinus.errors import ConfigError, plural
from orcinus.threads import engine_threads

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Device:
    """A device and a dtype, and the reason for the dtype."""

    device: torch.device
    dtype: torch.dtype
    dtype_reason: str

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def choose_device(device: str, dtype: str, checkpoint_dtype: torch.dtype | None) -> Device:
    """The requested device and dtype. Raises `ConfigError` if unavailable."""
    chosen = _device(device)
    if dtype == "auto":
        return Device(chosen, *_auto_dtype(chosen, checkpoint_dtype))
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: choose auto, {', '.join(DTYPES)}")
    if chosen.type == "cpu" and dtype == "float16":
        raise ConfigError("float16 is not supported on a CPU: choose float32 or bfloat16")
    return Device(chosen, DTYPES[dtype], "asked for")


def device_kind(name: str) -> str:
    """cpu or cuda, for the option `device`, whether or not it is here; devices of data sheets are GPUs."""
    return "cpu" if name.partition(":")[0] in ("auto", "cpu") else "cuda"


def _device(name: str) -> torch.device:
    if name == "auto":  # the CPU even if there is a GPU, until the GPU path has been measured on a device
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}: choose auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported: choose auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for, but torch sees no CUDA device: choose cpu, or install a CUDA build of torch"
        )
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ConfigError(f"there is no device {name!r}: this machine has cuda:0 to cuda:{count - 1}")
    return device


def _auto_dtype(device: torch.device, checkpoint: torch.dtype | None) -> tuple[torch.dtype, str]:
    if device.type == "cuda":
        return torch.bfloat16, "bfloat16 is what a GPU computes fastest"
    if checkpoint is torch.bfloat16 and cpu_multiplies_bfloat16():
        return torch.bfloat16, "the checkpoint is bfloat16 and this CPU multiplies bfloat16 in hardware"
    return torch.float32, "this CPU has no bfloat16 arithmetic" if checkpoint is torch.bfloat16 else "exact, and fast on a CPU"


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 dot products (AVX512-BF16 or AMX on x86)."""
    flags = _cpu_flags()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def machine_of(device: str) -> str:
    """A device's description: its name, cores, and torch's threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name = _cpu_info("model name").partition(":")[2].strip() or platform.machine()
    return f"{name}, {plural(os.cpu_count() or 1, 'core')}, {torch.get_num_threads()} of them used"


def _cpu_flags() -> frozenset[str]:
    return frozenset(_cpu_info("flags").split())


def _cpu_info(field: str) -> str:
    """The first line of /proc/cpuinfo with this prefix; empty without one."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next((line for line in info if line.startswith(field)), "")
    except OSError:
        return ""


def check_threads(asked: int | None) -> None:
    """Raise `ConfigError` for more threads than this machine runs."""
    engine_threads(asked, torch.get_num_threads())
