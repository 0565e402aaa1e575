"""Where a benchmark ran: machine, source, versions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orcinus
from orcinus.bench.result import Host
from orcinus.machine_load import usable_cores

PACKAGES = ("torch", "transformers", "numba", "numpy", "safetensors")
CPUINFO = Path("/proc/cpuinfo")


def this_machine() -> Host:
    """A description of this machine."""
    return Host(
        system=platform.platform(terse=True),
        processor=_processor(),
        cores=usable_cores(),
        memory_mib=_memory_mib(),
        gpus=_gpus(),
    )


def versions() -> dict[str, str]:
    """Versions of Python and the numeric libraries."""
    found = {"python": platform.python_version(), "orcinus": orcinus.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """This source's commit, with "+" if files changed since; or ""."""
    source = Path(orcinus.__file__).parent
    head = _said(["git", "-C", str(source), "rev-parse", "--short=12", "HEAD"])
    inside = head and _said(["git", "-C", str(source), "ls-files", "__init__.py"])
    if not inside:  # for example, installed inside another repository
        return ""
    return head + ("+" if _said(["git", "-C", str(source), "status", "--porcelain", "--untracked-files=no"]) else "")


def this_command() -> tuple[str, ...]:
    """The command line of this process, without the program's folder."""
    return (Path(sys.argv[0]).name, *sys.argv[1:])


def _processor() -> str:
    if CPUINFO.exists():
        for line in CPUINFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return _said(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor() or platform.machine()


def _memory_mib() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError, AttributeError):
        return 0


def _gpus() -> tuple[str, ...]:
    return tuple(_said(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines())


def _said(command: list[str]) -> str:
    """A program's output; empty if it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
