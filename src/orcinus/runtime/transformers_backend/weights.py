"""Weights of transformers' models: checked from headers, then loaded, both by transformers' own rules for names.

Those rules also fuse tensors, such as experts. The numbers are mapped from the files by our reader.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from orcinus.errors import ModelError, one_line
from orcinus.parent import environment_variable
from orcinus.runtime.attention.port import Attention
from orcinus.runtime.models.linear import Factory
from orcinus.runtime.transformers_backend.architecture import make_config, make_skeleton, model_class
from orcinus.runtime.transformers_backend.decoder import TransformersDecoder
from orcinus.runtime.transformers_backend.interface import quiet
from orcinus.runtime.transformers_backend.spec import TransformersSpec
from orcinus.runtime.weight_files import TensorHeader, equal_tensors, has_weights, read_headers, read_tensors, some

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
STD = 0.02  # of made-up weights


def outline_of(spec: TransformersSpec, attend: Attention, make: Factory) -> TransformersDecoder:
    """The decoder on the meta device."""
    with quiet():
        return TransformersDecoder(spec, attend, make, make_skeleton(spec.config, make.dtype), lambda name, tensor: tensor)


def check_weights(spec: TransformersSpec, folder: Path, headers: Mapping[str, TensorHeader]) -> None:
    """Raise `ModelError` if transformers would not find exactly the weights of the model, all in their shapes."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    if strange := [name for name, header in headers.items() if header.dtype not in FLOATS]:
        raise ModelError(f"{strange[0]} in {folder} is {headers[strange[0]].dtype}: quantized weights are not supported")
    kept = headers.keys() - _copies(spec, folder, headers.keys(), readable=has_weights(folder))
    with FakeTensorMode(allow_non_fake_inputs=True), _one_thread():  # tensors without numbers
        tensors = {
            name: torch.empty(header.shape, dtype=FLOATS[header.dtype]) for name, header in headers.items() if name in kept
        }
        _load(spec, folder, tensors, torch.float32)


def load_transformers_model(
    spec: TransformersSpec,
    folder: Path | None,
    saved: torch.dtype | None,
    attend: Attention,
    make: Factory,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TransformersDecoder:
    """The loaded decoder; without a folder its weights are made up. Raises `ModelError` if they do not fit the config.

    Files are mapped, and each tensor is copied to its place when its module gets its final form.
    """
    with quiet():
        skeleton = make_skeleton(spec.config, make.dtype)
    wanted = {name: tensor.dtype for name, tensor in (*skeleton.named_parameters(), *skeleton.named_buffers())}
    if folder is None:
        tensors: Iterable[tuple[str, Tensor]] = _made_up(skeleton, make.dtype)
    else:
        names = read_headers(folder).keys()
        tensors = read_tensors(folder, names - _copies(spec, folder, names, readable=True))
    model = _load(spec, folder, dict(tensors), saved or make.dtype)
    strict = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    done, total = 0, sum(tensor.nbytes for tensor in model.parameters())

    def placed(name: str, tensor: Tensor) -> Tensor:
        nonlocal done
        done += tensor.nbytes
        progress(min(done, total), total)
        dtype = wanted.get(name, tensor.dtype) if tensor.is_floating_point() else tensor.dtype
        if any(part in name for part in strict):
            dtype = torch.float32
        return tensor.to(make.device, dtype, copy=True)

    return TransformersDecoder(spec, attend, make, model, placed)


def _copies(spec: TransformersSpec, folder: Path, names: Collection[str], *, readable: bool) -> set[str]:
    """Stored heads that are their embedding once more.

    Raises `ModelError` for one that config.json ties to it and that differs; only `readable` weights can show that.
    """
    if not spec.tied:
        return set()
    ties = getattr(model_class(make_config(spec.config)), "_tied_weights_keys", None)
    found = {name: other for name, other in dict(ties or {}).items() if name in names and other in names}
    for name, other in found.items():
        if readable and not equal_tensors(folder, name, other):
            raise ModelError(
                f"config.json in {folder} ties the output to the embedding, but {name} differs from {other}: "
                "write tie_word_embeddings false into it"
            )
    return {*found}


def _load(spec: TransformersSpec, folder: Path | None, tensors: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """transformers' model with these tensors. Raises `ModelError` if any is missing, left over or misshapen."""
    config = make_config(spec.config)
    with quiet():
        try:
            model, info = model_class(config).from_pretrained(
                None, config=config, state_dict=tensors, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
            )
        except Exception as error:  # conversions of names and shapes can raise anything
            raise ModelError(f"transformers cannot load the weights in {folder} ({one_line(error)[:200]})") from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"weights are missing in {folder}: {some(missing)}")
    if unexpected := sorted(info["unexpected_keys"]):
        raise ModelError(f"{folder} holds weights that {spec.architecture} does not have: {some(unexpected)}")
    for name, stored, wanted in sorted(info["mismatched_keys"]):
        raise ModelError(f"{name} in {folder} has shape {list(stored)}, but config.json wants {list(wanted)}")
    return model


def _made_up(skeleton: Any, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Random weights: matrices as GPT-2's at first, weights of norms 1, all else 0. A tied head is left out."""
    stored = skeleton.state_dict().keys()
    for name, tensor in (*skeleton.named_parameters(), *skeleton.named_buffers()):
        if name not in stored:
            continue
        generator = torch.Generator().manual_seed(crc32(name.encode()))
        if tensor.dim() > 1:
            yield name, torch.empty(tensor.shape, dtype=dtype).normal_(std=STD, generator=generator)
        else:
            yield name, torch.full(tensor.shape, float(name.endswith("weight")), dtype=tensor.dtype)


def _one_thread() -> AbstractContextManager[None]:
    """Make transformers load in this thread: tensors without numbers cannot be shared by threads."""
    return environment_variable("HF_DEACTIVATE_ASYNC_LOAD", "1")
