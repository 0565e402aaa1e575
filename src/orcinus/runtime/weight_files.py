"""The safetensors files of a model folder: headers and tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from orcinus.errors import ModelError, unreadable
from orcinus.gguf_file import TYPES, is_gguf, read_gguf
from orcinus.model_config import MIB, read_object, shown

if TYPE_CHECKING:  # readers of headers need no torch, whose import takes a second
    from torch import Tensor

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
MOST_INDEX_BYTES = 64 * MIB  # the index of a model with 91,000 tensors has 9 MiB
MOST_HEADER_BYTES = 8 * MIB
MOST_TENSORS = 2**17
COMPARED_AT_ONCE = 2**20  # numbers
MAPPED_AT_ONCE = 32 * MIB
BITS: dict[str, float] = {kind.name: 8 * kind.bytes / kind.numbers for kind in TYPES.values()}
BITS |= {f"int{bits}": bits for bits in range(2, 9)}  # of quantised modules; fp8 has 8
BITS |= {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16}


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A tensor's description in its file."""

    dtype: str  # safetensors' or ggml's name: F32, BF16, Q4_K, …
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return self.bytes_of(prod(self.shape))

    def bytes_of(self, count: int) -> int:
        """Bytes of so many numbers; those of unlisted dtypes have one."""
        return round(count * BITS.get(self.dtype, 8) / 8)


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """The tensors of a folder or a GGUF file by name, without reading a weight.

    Raises `ModelError` if a file is missing or damaged.
    """
    if is_gguf(folder):
        return {name: TensorHeader(tensor.type.name, tensor.shape) for name, tensor in read_gguf(folder).tensors.items()}
    return file_headers(weight_files(folder))


def file_headers(files: Sequence[Path]) -> dict[str, TensorHeader]:
    """The tensors of safetensors files by name. Raises `ModelError` as `read_headers` does."""
    headers: dict[str, TensorHeader] = {}
    for file in files:
        try:
            _check_header(file)
            with safe_open(file, framework="pt") as tensors:
                names = tensors.keys()
                if len(headers) + len(names) > MOST_TENSORS:
                    raise ModelError(f"{file.parent} holds more than {MOST_TENSORS} tensors: no model that can be loaded does")
                for name in names:
                    if name in headers:
                        raise ModelError(f"{file.parent} holds {name} in {file.name} and in another file: remove one of them")
                    part = tensors.get_slice(name)
                    headers[name] = TensorHeader(part.get_dtype(), tuple(part.get_shape()))
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None
    return headers


def read_tensors(folder: Path, wanted: Container[str]) -> Iterator[tuple[str, Tensor]]:
    """The wanted tensors of a folder, mapped from their files.

    A tensor is a view of its file: it takes no memory of its own, and its pages are read as they are copied to their places. A
    file is opened anew after every `MAPPED_AT_ONCE` bytes, because the pages of a mapping count as this process's memory as
    long as it lasts: with one mapping for the whole file, loading took twice the weights. With one for each tensor, a model
    of many experts read the same header thousands of times. Raises `ModelError` if a file cannot be read.
    """
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                names = deque(name for name in tensors.keys() if name in wanted)  # noqa: SIM118
            while names:
                with safe_open(file, framework="pt") as tensors:
                    mapped = 0
                    while names and mapped < MAPPED_AT_ONCE:
                        tensor = tensors.get_tensor(names[0])
                        mapped += tensor.nbytes
                        yield names.popleft(), tensor
                        del tensor
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None


def files_of_tensors(folder: Path) -> dict[str, Path]:
    """The file of each tensor of a folder. Raises `ModelError` if a file cannot be read."""
    found: dict[str, Path] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                found |= dict.fromkeys(tensors.keys(), file)
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None
    return found


def map_tensors(files: Mapping[str, Path], names: Iterable[str]) -> dict[str, Tensor]:
    """Some tensors together, mapped from their files. Raises `ModelError` if a file cannot be read."""
    found = {}
    for name in names:
        try:
            with safe_open(files[name], framework="pt") as tensors:
                found[name] = tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _unreadable(files[name], error) from None
    return found


def equal_tensors(folder: Path, first: str, second: str) -> bool:
    """Whether two stored tensors hold the same numbers.

    It reads them piece by piece until they differ. Raises `ModelError` if a file cannot be read.
    """
    with ExitStack() as stack:
        one, other = (_open_slice(stack, folder, name) for name in (first, second))
        shape = one.get_shape()
        if shape != other.get_shape():
            return False
        step = max(1, COMPARED_AT_ONCE // max(1, prod(shape[1:])))
        return all(_equal(one[at : at + step], other[at : at + step]) for at in range(0, shape[0], step))


def _open_slice(stack: ExitStack, folder: Path, name: str) -> Any:
    for file in weight_files(folder):
        try:
            tensors = stack.enter_context(safe_open(file, framework="pt"))
            if name in tensors.keys():  # noqa: SIM118  (the reader is not a mapping)
                return tensors.get_slice(name)
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None
    raise ModelError(f"weights are missing in {folder}: {name}")


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype:
        one, other = one.double(), other.double()
    return one.equal(other)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights. Raises `ModelError` if one is missing."""
    shards = weight_names(folder)
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise ModelError(f"weight files are missing in {folder}: {some(missing)}; {_hint(folder, shards)}")
    return [folder / shard for shard in shards]


def _hint(folder: Path, wanted: Sequence[str]) -> str:
    """What to do where weight files are missing."""
    others = sorted(file.name for file in folder.glob("*.safetensors") if file.name not in wanted)
    if others and wanted == [SINGLE]:
        return f"it holds {some(others)}, and weights are read from {SINGLE}, or from the files that {INDEX} names"
    return "convert its .bin files to safetensors first" if any(folder.glob("*.bin")) else "download it again"


def weight_names(folder: Path) -> list[str]:
    """The names of the files that hold the weights, whether they are there or not. Raises `ModelError` for a broken index."""
    return _shards(folder) if (folder / INDEX).is_file() and not (folder / SINGLE).is_file() else [SINGLE]


def has_weights(folder: Path) -> bool:
    """Whether all files that hold the weights are there."""
    try:
        return is_gguf(folder) or bool(weight_files(folder))
    except ModelError:
        return False


def _shards(folder: Path) -> list[str]:
    """The files that an index names, all inside the folder."""
    named = read_object(folder / INDEX, MOST_INDEX_BYTES).get("weight_map")
    if not isinstance(named, dict):
        raise ModelError(f"{INDEX} in {folder} cannot be understood: weight_map must be an object, not {shown(named)}")
    shards = sorted(set(map(str, named.values())))
    for shard in shards:
        if PurePath(shard).is_absolute() or ".." in PurePath(shard).parts or "\0" in shard or len(shard) > 255:
            raise ModelError(f"{INDEX} in {folder} names {shown(shard)}: weight files lie inside the folder")
    return shards


def some(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_header(file: Path) -> None:
    """Refuse headers that take long to read, by their stated length.

    The length is the first eight bytes of the file.
    """
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
    if size > MOST_HEADER_BYTES:
        raise ModelError(f"{file} cannot be read: its header has {size} bytes, at most {MOST_HEADER_BYTES} are read")


def _unreadable(file: Path, error: Exception) -> ModelError:
    return ModelError(f"{file} cannot be read: {unreadable(error, 'download it again')}")
