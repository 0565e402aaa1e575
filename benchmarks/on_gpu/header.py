"""What was measured on, and with what."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "triton", "transformers", "numpy", "safetensors")


def header(device: str, toy: bool, words: Sequence[str]) -> dict[str, Any]:
    """Device, driver, versions, commit, date and command line."""
    import torch

    found: dict[str, Any] = {"device": device_name(device), "toy": toy, "driver": driver()}
    found |= {name: installed(name) for name in PACKAGES}
    found |= {"cuda": torch.version.cuda, "python": platform.python_version(), "commit": commit()}
    if device != "cpu":
        properties = torch.cuda.get_device_properties(device)
        found |= {"memory_gb": properties.total_memory / 1e9, "multiprocessors": properties.multi_processor_count}
    return found | {"date": datetime.now(UTC).isoformat(timespec="seconds"), "command": " ".join(["gpu.py", *words])}


def device_name(device: str) -> str:
    """Its name; of a CPU, that it is one."""
    import torch

    return "CPU (triton interprets the kernels)" if device == "cpu" else torch.cuda.get_device_name(device)


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit, and whether files were changed; None without a repository."""
    found = said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    changed = found and said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return f"{found}, changed" if changed else found


def driver() -> str | None:
    """The version of the device's driver; None if there is none."""
    return said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or said(
        "cat", "/proc/driver/nvidia/version"
    )


def said(*command: str) -> str | None:
    """What a command says on its first line; None if it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.strip().splitlines()), None)


def in_words(found: dict[str, Any]) -> str:
    """A line for each."""
    lines = [f"{name:<16}{value}" for name, value in found.items() if value is not None]
    if found.get("toy"):
        lines.append("TOY SIZES ON A CPU: the figures mean nothing, this shows only that every section runs.")
    return "\n".join(lines)
