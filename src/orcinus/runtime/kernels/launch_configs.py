"""Launch configs of attention by shape class: tiles, warps, pipeline stages.

Defaults were reasoned out for H100 and H200 (228 KiB of shared memory and 65,536 registers a multiprocessor). A tuned launch,
measured on this very device, is kept in a file and takes precedence: see `tune.py`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from orcinus.cache import cache_folder
from orcinus.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaunchConfig:
    """Tile sizes, warps and stages of a kernel launch.

    A tile is `block_m` rows (tokens × query heads of one kv head) by `block_n` positions.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int  # tiles of keys and values loaded ahead

    def __post_init__(self) -> None:
        for name in ("block_m", "block_n"):
            size = getattr(self, name)
            if size < 16 or size & (size - 1):
                raise ConfigError(f"{name} must be a power of two of at least 16 (tensor cores take no less), not {size}")


@dataclass(frozen=True, slots=True)
class ShapeClass:
    """The key by which launch configs are chosen.

    `decode` = no request has more rows than fit one tile of 16.
    """

    head_dim: int
    group: int  # query heads per kv head
    dtype: torch.dtype
    decode: bool

    def __str__(self) -> str:
        kind = "decode" if self.decode else "mixed"
        return f"{kind}-{str(self.dtype).removeprefix('torch.')}-dim{self.head_dim}-group{self.group}"


def padded(size: int, least: int = 16) -> int:
    """The next power of two, at least a tensor core's tile."""
    return max(least, 1 << (size - 1).bit_length())


def default(shape: ShapeClass) -> LaunchConfig:
    """The launch config without measurements.

    Its query tile is at least as tall as one token's group of heads.

    Registers and shared memory below are what triton 3.6 makes of it for sm_90; none of these spills.
    """
    dim, least = padded(shape.head_dim), padded(shape.group)
    if shape.dtype is torch.float32:  # no tensor cores: the operands of a product live in registers, so tiles are small
        return LaunchConfig(max(16, least), 16, 4 if dim <= 128 else 8, 2)
    if shape.decode:  # dim 128: 39 KiB and 128 registers, so four programs with 32 KiB each on their way fit side by side
        return LaunchConfig(max(16, least), 64 if dim <= 128 else 32, 4, 3)
    if dim <= 64:
        return LaunchConfig(max(128, least), 64, 4, 3)
    # dim 128: 170 registers for a thread of eight warps, 97 KiB; with four warps the accumulator alone would take 128
    return LaunchConfig(max(128, least), 64 if dim <= 128 else 32, 8, 3)


def choose(shape: ShapeClass, device: torch.device) -> LaunchConfig:
    """The tuned launch config for this device and class, else the default."""
    return remembered().get(key(shape, device)) or default(shape)


@cache
def key(shape: ShapeClass, device: torch.device) -> str:
    """The key of a tuned launch: device, compiler and shape class."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, triton {version('triton')}, {shape}"


def memory_file() -> Path | None:
    """The file of tuned launches, `launches.json`; None without a cache folder."""
    folder = cache_folder()
    return None if folder is None else folder / "launches.json"


@cache
def remembered() -> Mapping[str, LaunchConfig]:
    """All remembered launches, by `key`.

    They are read once a process; an unreadable file counts as empty.
    """
    file = memory_file()
    if file is None:
        return {}
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return {name: LaunchConfig(**row) for name, row in rows.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("tuned launches in %s are not used: %s", file, error)
        return {}


def remember(shape: ShapeClass, device: torch.device, launch: LaunchConfig) -> None:
    """Add a launch to the file, for this and later processes.

    Raises `ConfigError` if it cannot be written.
    """
    remembered.cache_clear()
    rows = {name: asdict(known) for name, known in remembered().items()} | {key(shape, device): asdict(launch)}
    file = memory_file()
    if file is None:
        raise ConfigError("tuned launches cannot be kept: set XDG_CACHE_HOME to a folder that only you can write to")
    try:
        fresh = file.with_suffix(f".{os.getpid()}")  # renamed when complete: no other process reads half of it
        fresh.write_text(json.dumps(rows, indent=1, sort_keys=True), encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        raise ConfigError(
            f"tuned launches cannot be kept in {file}: {error}; set XDG_CACHE_HOME to a folder that only you can write to"
        ) from None
    remembered.cache_clear()
