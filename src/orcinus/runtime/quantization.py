"""The options `quantization`, `kv_cache_dtype` and `lora`.

Whether they can be had, what they make of each rank, and what the user should know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orcinus.config import PLAIN, EngineConfig
from orcinus.errors import ConfigError
from orcinus.gguf_file import is_gguf
from orcinus.runtime.checkpoint import Checkpoint
from orcinus.runtime.device import Device
from orcinus.runtime.lora.adapter import Adapter
from orcinus.runtime.packed_weights import packed_format
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.rank_sizes import RankSizes, rank_sizes, with_adapters
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS


def keeps_integers(quantization: str | None, folder: Path) -> bool:
    """Whether a checkpoint's integers stay as they are: `none`, and other formats for GGUF files, dequantise them."""
    return quantization is None or (quantization != PLAIN and not is_gguf(folder))


def check_quantization(name: str | None, device: Device) -> None:
    """Raise `ConfigError` if weights cannot be quantised on this device."""
    if name is None:
        return
    if device.device.type != "cpu":
        raise ConfigError(f"quantization {name} is for CPUs: leave it out on device {device.device}")
    QUANTIZED_WEIGHTS[name].check()


def planned_ranks(
    checkpoint: Checkpoint, device: Device, mesh: Mesh, config: EngineConfig, adapters: Sequence[Adapter]
) -> tuple[RankSizes, ...]:
    """The part of every rank on a device.

    Raises `ConfigError` if the model cannot be split, quantised or adapted as the config asks.
    """
    check_quantization(config.rounds_to, device)
    _check_adapters(config, device, checkpoint)
    if config.kv_cache_dtype != "auto" and device.device.type != "cpu":
        raise ConfigError(f"kv_cache_dtype {config.kv_cache_dtype} is for CPUs: leave it out on device {device.device}")
    prepacked = packed_format(device.device.type, device.dtype) is not None
    formats = {"quantization": config.rounds_to, "kv_cache_dtype": config.kv_cache_dtype}
    ranks = rank_sizes(checkpoint.spec, device.dtype, checkpoint.formats, mesh, prepacked=prepacked, **formats)
    return ranks if config.merge_lora else with_adapters(ranks, adapters, checkpoint, device.dtype)


def _check_adapters(config: EngineConfig, device: Device, checkpoint: Checkpoint) -> None:
    """Raise `ConfigError` if this device, or the format of the weights, has no products of adapters."""
    if config.merge_lora:
        if checkpoint.quantized is not None:
            raise ConfigError(f"merge_lora is for plain weights, and {checkpoint.folder} is quantized: leave it out")
    elif config.adapters and device.device.type != "cpu":
        raise ConfigError(f"lora is for CPUs: leave it out on device {device.device}, or merge the adapter with merge_lora")


def quantization_notes(name: str | None, checkpoint: Checkpoint) -> Iterator[str]:
    """What a user of this machine should know about the option, and about a checkpoint that is quantised."""
    if checkpoint.quantized is not None:
        yield from checkpoint.quantized.notes(name)
    asked = {name} if name is not None and name != PLAIN else set()
    for product in sorted(checkpoint.formats.products | asked):
        yield from QUANTIZED_WEIGHTS[product].notes()
