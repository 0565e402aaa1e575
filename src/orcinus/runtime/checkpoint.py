"""A checkpoint folder: its config, its architecture and its weights, none of them taken on trust."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orcinus.errors import ModelError
from orcinus.runtime.attention import ATTENTION, Attention
from orcinus.runtime.device import Device
from orcinus.runtime.dummy import fill_at_random
from orcinus.runtime.models import ARCHITECTURES, Decoder, DecoderSpec, Factory, Family, Place
from orcinus.runtime.operators import PLAIN, Operators
from orcinus.runtime.packed import can_pack
from orcinus.runtime.weight_files import TensorHeader, one_line, read_headers, read_tensors, some

FLOATS = {"F64", "F32", "F16", "BF16"}  # as safetensors names them


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
        raise ModelError(f"config.json in {folder} cannot be understood: {one_line(error)}") from error
    return Checkpoint(folder, architecture, spec, _saved_dtype(config))


def outline(spec: DecoderSpec) -> Decoder:
    """The decoder without memory: shapes only. Raises `ModelError` if there can be no such decoder."""
    return Decoder(spec, ATTENTION["reference"](), Factory(torch.device("meta"), torch.float32))


def load_model(
    checkpoint: Checkpoint,
    device: Device,
    attend: Attention,
    operators: Operators = PLAIN,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    dummy: bool = False,
) -> Decoder:
    """Build the decoder on the device and fill it. Raises `ModelError` if weights and config disagree in any way.

    The decoder is made where it will run, so that a GPU's model has no second copy in the machine's memory: of the files one
    tensor is mapped at a time, and a device that is not the CPU holds one tensor beside the model while it is converted.
    `dummy` makes weights up instead. `progress` hears after every tensor how many bytes are there, and of how many.
    """
    model = Decoder(checkpoint.spec, attend, Factory(device.device, device.dtype, operators))
    if dummy:
        fill_at_random(model, progress)
    else:
        _fill_from_files(model, checkpoint, progress)
    if can_pack(device.device.type, device.dtype):
        model.pack()
    return model


def _fill_from_files(model: Decoder, checkpoint: Checkpoint, progress: Callable[[int, int], None]) -> None:
    tensors = read_headers(checkpoint.folder)
    places = match(checkpoint, model, tensors)
    parameters = dict(model.named_parameters())
    done, total = 0, sum(tensors[name].num_bytes for name in places)
    for name, tensor in read_tensors(checkpoint.folder, places):
        place = places[name]
        put(tensor, _target(parameters[place.parameter], place, model.spec), transposed=place.transposed)
        done += tensors[name].num_bytes
        progress(done, total)


def put(tensor: Tensor, target: Tensor, *, transposed: bool) -> None:
    """Write a tensor of a file into its place on a device, in the place's dtype.

    What crosses to the device is the narrower of the two formats: a tensor whose numbers are no wider than the model's is
    converted and transposed there, a wider one before, because torch converts such copies on the CPU.
    """
    as_it_is = tensor.dtype == target.dtype and not transposed
    if not as_it_is and tensor.dtype.itemsize <= target.dtype.itemsize:
        tensor = tensor.to(target.device)
    target.copy_(tensor.t() if transposed else tensor)


def match(checkpoint: Checkpoint, model: Decoder, tensors: Mapping[str, TensorHeader]) -> dict[str, Place]:
    """Where every tensor goes. Raises `ModelError` if one is missing, left over, quantized or of another shape."""
    parameters = dict(model.named_parameters())
    empty = {(name, part) for name in parameters for part in _parts(name, model.spec)}
    places, unexpected = dict[str, Place](), list[str]()
    for name, tensor in tensors.items():
        place = checkpoint.family.place(name)
        if checkpoint.family.skips(name, model.spec.tied):
            continue
        if place is None or place.parameter not in parameters:
            unexpected.append(name)
            continue
        if tensor.dtype not in FLOATS:
            raise ModelError(f"{name} in {checkpoint.folder} is {tensor.dtype}: quantized weights are not supported")
        wanted = list(_target(parameters[place.parameter], place, model.spec).shape)
        wanted = wanted[::-1] if place.transposed else wanted
        if list(tensor.shape) != wanted:
            raise ModelError(f"{name} in {checkpoint.folder} has shape {list(tensor.shape)}, but config.json wants {wanted}")
        places[name] = place
        filled = _parts(place.parameter, model.spec) if place.part is None else (place.part,)
        empty -= {(place.parameter, part) for part in filled}
    if empty:
        names = sorted(checkpoint.family.source(name, part) for name, part in empty)
        raise ModelError(f"weights are missing in {checkpoint.folder}: {some(names)}")
    if unexpected:
        raise ModelError(f"{checkpoint.folder} holds weights that {checkpoint.architecture} does not have: {some(unexpected)}")
    return places


def _parts(parameter: str, spec: DecoderSpec) -> tuple[int, ...]:
    if ".qkv." in parameter:
        return (0, 1, 2)
    return (0, 1) if ".mlp.up." in parameter and spec.gated_mlp else (0,)


def _target(parameter: nn.Parameter, place: Place, spec: DecoderSpec) -> Tensor:
    if place.part is None:
        return parameter.data
    sizes = spec.qkv_sizes if ".qkv." in place.parameter else (spec.intermediate_size, spec.intermediate_size)
    start = sum(sizes[: place.part])
    return parameter.data[start : start + sizes[place.part]]


def _architecture(folder: Path) -> str:
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"config.json in {folder} is not a JSON object: {one_line(error)}") from None
    listed = names if isinstance(names, list) else [names]
    for name in map(str, listed):
        if name in ARCHITECTURES:
            return name
    raise ModelError(f"architecture {', '.join(map(str, listed))} in {folder} is not supported: see `orcinus models`")


def _saved_dtype(config: Any) -> torch.dtype | None:
    dtype = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype
