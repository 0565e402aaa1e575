"""A checkpoint folder: its config, its architecture and its weights, none of them taken on trust."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from orcinus.errors import ModelError
from orcinus.runtime.attention import Attention
from orcinus.runtime.device import Device
from orcinus.runtime.models import ARCHITECTURES, Decoder, DecoderSpec, Factory, Family

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a model folder promises; no weight has been read yet."""

    folder: Path
    architecture: str
    spec: DecoderSpec
    dtype: torch.dtype | None  # in which the weights were saved

    @property
    def family(self) -> Family:
        return ARCHITECTURES[self.architecture]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read config.json. Raises `ModelError` if it is missing, broken, or of an unknown architecture."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"no config.json in {folder}: this is not a model folder")
    architecture = _architecture(folder)
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if getattr(config, "quantization_config", None):
            raise ModelError("quantized checkpoints are not supported: use the original weights")
        spec = ARCHITECTURES[architecture].read(config)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    except Exception as error:  # whatever a config can make its readers stumble over
        raise ModelError(f"config.json in {folder} cannot be understood: {_one_line(error)}") from error
    return Checkpoint(folder, architecture, spec, _saved_dtype(config))


def load_model(checkpoint: Checkpoint, device: Device, attend: Attention) -> Decoder:
    """Build the decoder on the device and fill it. Raises `ModelError` if weights and config disagree in any way."""
    model = Decoder(checkpoint.spec, attend, Factory(device.device, device.dtype))
    load_weights(model, checkpoint)
    return model


def load_weights(model: Decoder, checkpoint: Checkpoint) -> None:
    """Copy every tensor of the checkpoint to its place; nothing may be missing, left over, or of another shape."""
    parameters = dict(model.named_parameters())
    empty = {(name, part) for name in parameters for part in _parts(name, model.spec)}
    unexpected = []
    for name, tensor in _tensors(checkpoint.folder):
        place = checkpoint.family.place(name)
        if checkpoint.family.skips(name, model.spec.tied):
            continue
        if place is None or place.parameter not in parameters:
            unexpected.append(name)
            continue
        target = _target(parameters[place.parameter], place.part, place.parameter, model.spec)
        source = tensor.t() if place.transposed else tensor
        if not tensor.is_floating_point():
            raise ModelError(f"{name} in {checkpoint.folder} is {tensor.dtype}: quantized weights are not supported")
        if target.shape != source.shape:
            raise ModelError(
                f"{name} in {checkpoint.folder} has shape {list(source.shape)}, but config.json wants {list(target.shape)}"
            )
        target.copy_(source)
        filled = _parts(place.parameter, model.spec) if place.part is None else (place.part,)
        empty -= {(place.parameter, part) for part in filled}
    if empty:
        names = sorted(checkpoint.family.source(name, part) for name, part in empty)
        raise ModelError(f"weights are missing in {checkpoint.folder}: {_some(names)}")
    if unexpected:
        raise ModelError(f"{checkpoint.folder} holds weights that {checkpoint.architecture} does not have: {_some(unexpected)}")


def _parts(parameter: str, spec: DecoderSpec) -> tuple[int, ...]:
    if ".qkv." in parameter:
        return (0, 1, 2)
    return (0, 1) if ".mlp.up." in parameter and spec.gated_mlp else (0,)


def _target(parameter: nn.Parameter, part: int | None, name: str, spec: DecoderSpec) -> Tensor:
    if part is None:
        return parameter.data
    sizes = spec.qkv_sizes if ".qkv." in name else (spec.intermediate_size, spec.intermediate_size)
    start = sum(sizes[:part])
    return parameter.data[start : start + sizes[part]]


def _architecture(folder: Path) -> str:
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"config.json in {folder} is not a JSON object: {_one_line(error)}") from None
    listed = names if isinstance(names, list) else [names]
    for name in map(str, listed):
        if name in ARCHITECTURES:
            return name
    raise ModelError(f"architecture {', '.join(map(str, listed))} in {folder} is not supported: see `orcinus models`")


def _saved_dtype(config: Any) -> torch.dtype | None:
    dtype = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for file in _files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (the reader is not a mapping)
                    yield name, tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} cannot be read: {_one_line(error)}; download it again") from None


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file() and not (folder / SINGLE).is_file():
        try:
            shards = sorted(set(map(str, json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{INDEX} in {folder} cannot be understood: {_one_line(error)}") from None
    else:
        shards = [SINGLE]
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        hint = "convert its .bin files to safetensors first" if list(folder.glob("*.bin")) else "download it again"
        raise ModelError(f"weight files are missing in {folder}: {_some(missing)}; {hint}")
    return [folder / shard for shard in shards]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
