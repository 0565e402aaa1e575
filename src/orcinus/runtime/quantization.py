"""The options `quantization` and `kv_cache_dtype`.

Whether they can be had, what they make of each rank, and what the user should know.
"""

from __future__ import annotations

from collections.abc import Iterator

from orcinus.errors import ConfigError
from orcinus.runtime.checkpoint import Checkpoint
from orcinus.runtime.device import Device
from orcinus.runtime.packed_weights import packed_format
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.rank_sizes import RankSizes, rank_sizes
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS


def check_quantization(name: str | None, device: Device) -> None:
    """Raise `ConfigError` if weights cannot be quantised on this device."""
    if name is None:
        return
    if device.device.type != "cpu":
        raise ConfigError(f"quantization {name} is for CPUs: leave it out on device {device.device}")
    QUANTIZED_WEIGHTS[name].check()


def planned_ranks(
    checkpoint: Checkpoint, device: Device, mesh: Mesh, quantization: str | None, kv_cache_dtype: str
) -> tuple[RankSizes, ...]:
    """The part of every rank on a device. Raises `ConfigError` if the model cannot be split or quantised so."""
    check_quantization(quantization, device)
    if kv_cache_dtype != "auto" and device.device.type != "cpu":
        raise ConfigError(f"kv_cache_dtype {kv_cache_dtype} is for CPUs: leave it out on device {device.device}")
    prepacked = packed_format(device.device.type, device.dtype) is not None
    formats = {"quantization": quantization, "kv_cache_dtype": kv_cache_dtype}
    return rank_sizes(checkpoint.spec, device.dtype, checkpoint.formats, mesh, prepacked=prepacked, **formats)


def quantization_notes(name: str | None, checkpoint: Checkpoint) -> Iterator[str]:
    """What a user of this machine should know about the option, and about a checkpoint that is quantised."""
    if checkpoint.quantized is not None:
        yield from checkpoint.quantized.notes(name)
    if name is not None:
        yield from QUANTIZED_WEIGHTS[name].notes()
