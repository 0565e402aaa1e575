"""Every tensor of a checkpoint matched with its place in the decoder, from headers alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orcinus.errors import ModelError
from orcinus.gguf_file import TYPES
from orcinus.runtime.models import WRAPPERS, Decoder, Place
from orcinus.runtime.weight_files import TensorHeader, some

if TYPE_CHECKING:
    from orcinus.runtime.checkpoint import Checkpoint

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}  # by safetensors' names
EXACT = {"I8": torch.int8, "U8": torch.uint8, "I32": torch.int32, "F8_E4M3": torch.float8_e4m3fn}  # never converted
DEQUANTIZED = {kind.name for kind in TYPES.values()} | {"fp8", *(f"int{bits}" for bits in range(2, 9))}  # while they are loaded
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATS.values()}
EMBEDDING, HEAD = "embed.weight", "head.weight"


def match(checkpoint: Checkpoint, model: Decoder, tensors: Mapping[str, TensorHeader]) -> dict[str, Place]:
    """The place of every tensor, by name.

    Raises `ModelError` if a tensor is missing, duplicate, left over, quantized or misshapen.
    """
    wanted, family = model.tensors(), checkpoint.family
    places = _places(checkpoint, tensors)
    filling = {name: place.parameters(checkpoint.spec.num_experts) for name, place in places.items() if place}
    known = {name: place for name, place in places.items() if place and filling[name] and wanted.keys() >= {*filling[name]}}
    unexpected = [name for name in places if name not in known]
    filled = dict[tuple[str, int], str]()
    for name, place in known.items():
        parameters = filling[name]
        _check_tensor(checkpoint, name, tensors[name], place, model.part(parameters[0], place.part))
        parts = range(model.num_parts(parameters[0])) if place.part is None else (place.part,)
        for weight in itertools.product(parameters, parts):
            if (twin := filled.setdefault(weight, name)) != name:
                raise ModelError(
                    f"{checkpoint.folder} holds {twin} and {name}, which are the same weight: remove either of them"
                )
    empty = {(name, part) for name in wanted for part in range(model.num_parts(name))} - filled.keys()
    if empty:
        prefix = next((_wrapper(name) for name in known if _wrapper(name)), "")
        names = sorted(prefix * (name != HEAD) + family.source(name, part) for name, part in empty)
        raise ModelError(f"weights are missing in {checkpoint.folder}: {some(names)}{_untied(checkpoint, empty)}")
    if unexpected:
        raise ModelError(f"{checkpoint.folder} holds weights that {checkpoint.architecture} does not have: {some(unexpected)}")
    return known


def _places(checkpoint: Checkpoint, tensors: Mapping[str, TensorHeader]) -> dict[str, Place | None]:
    """The place of every tensor that is not skipped.

    The head of a tied model is its embedding, or a copy of it.
    """
    family = checkpoint.family
    found = {name: family.place(name) for name in tensors if not family.skips(name)}
    if not checkpoint.spec.tied:
        return found
    has_embedding = any(place and place.parameter == EMBEDDING for place in found.values())
    heads = [name for name, place in found.items() if place and place.parameter == HEAD]
    if has_embedding:
        return {name: place for name, place in found.items() if name not in heads}
    return found | {name: Place(EMBEDDING) for name in heads}


def _wrapper(name: str) -> str:
    found = WRAPPERS.match(name)
    return found.group() if found else ""


def _untied(checkpoint: Checkpoint, empty: set[tuple[str, int]]) -> str:
    return f"; or tie_word_embeddings in {checkpoint.config_name} should be true" if empty == {(HEAD, 0)} else ""


def _check_tensor(checkpoint: Checkpoint, name: str, tensor: TensorHeader, place: Place, target: Tensor) -> None:
    """Check that a tensor's shape and dtype suit its place.

    Raises `ModelError` if not.
    """
    converted = tensor.dtype in FLOATS or tensor.dtype in DEQUANTIZED
    if not (target.dtype in DTYPES.values() if converted else EXACT.get(tensor.dtype) is target.dtype):
        raise ModelError(
            f"{name} in {checkpoint.folder} is {tensor.dtype}, and config.json does not say how that was quantized"
        )
    wanted = list(target.shape)[::-1] if place.transposed else list(target.shape)
    if place.order is not None:
        wanted[0] = int(place.order(checkpoint.spec).max()) + 1  # some rows may be unused
    if place.stacked:
        wanted.insert(0, checkpoint.spec.num_experts)
    if checkpoint.gguf is not None and wanted[0] == 1 and len(tensor.shape) == 1:
        wanted = wanted[1:]  # ggml drops a first dimension of 1
    if list(tensor.shape) != wanted:
        has = f"{name} in {checkpoint.folder} has shape {list(tensor.shape)}"
        raise ModelError(f"{has}, but {checkpoint.config_name} wants {wanted}")
