"""The safetensors files of a model folder: what their headers say, and the tensors one at a time."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from orcinus.errors import ModelError

if TYPE_CHECKING:  # whoever reads headers only does without torch, which takes a second to import
    from torch import Tensor

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16}


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a file says of one tensor."""

    dtype: str  # as safetensors spells it: F32, BF16, …
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * BITS.get(self.dtype, 8) // 8  # what is not listed is a byte or less


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """The tensors of a folder by name; no weight is read. Raises `ModelError` if a file is missing or damaged."""
    headers = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (the reader is not a mapping)
                    part = tensors.get_slice(name)
                    headers[name] = TensorHeader(part.get_dtype(), tuple(part.get_shape()))
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None
    return headers


def read_tensors(folder: Path, wanted: Container[str]) -> Iterator[tuple[str, Tensor]]:
    """The wanted tensors of a folder, mapped from their files. Raises `ModelError` if a file cannot be read.

    A tensor is a view of its file: it takes no memory of its own, and its pages are read as they are copied to where they
    belong. A file is opened anew for every tensor, because the pages of a mapping count as this process's memory for as long
    as it lasts: with one mapping for the whole file, loading took twice the weights.
    """
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                names = [name for name in tensors.keys() if name in wanted]  # noqa: SIM118
            for name in names:
                with safe_open(file, framework="pt") as tensors:
                    yield name, tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights. Raises `ModelError` if one is missing."""
    if (folder / INDEX).is_file() and not (folder / SINGLE).is_file():
        try:
            shards = sorted(set(map(str, json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{INDEX} in {folder} cannot be understood: {one_line(error)}") from None
    else:
        shards = [SINGLE]
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        hint = "convert its .bin files to safetensors first" if list(folder.glob("*.bin")) else "download it again"
        raise ModelError(f"weight files are missing in {folder}: {some(missing)}; {hint}")
    return [folder / shard for shard in shards]


def some(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def one_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _unreadable(file: Path, error: Exception) -> ModelError:
    return ModelError(f"{file} cannot be read: {one_line(error)}; download it again")
