"""GGUF files: metadata and headers of tensors, read within limits.

The format is that of ggml (docs/gguf.md in its repository), versions 2 and 3. No weight is read, and large arrays, such as a
vocabulary, only when they are asked for.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from orcinus.errors import ModelError, shown, unreadable

MAGIC, VERSIONS = b"GGUF", (2, 3)
MOST_HEADER_BYTES = 128 * 2**20  # a vocabulary of 262,144 tokens has 10 MiB
MOST_FIELDS, MOST_TENSORS, MOST_NAME_BYTES, MOST_DIMENSIONS = 2**12, 2**17, 2**10, 4
MOST_FLOATS = 2**14  # of a tensor that belongs to the description
SMALL = 2**12  # bytes of an array that is read at once
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # as struct names them
PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class BlockType(NamedTuple):
    """A tensor's number format: equal blocks of numbers."""

    name: str
    numbers: int  # of a block
    bytes: int


TYPES = {
    0: BlockType("F32", 1, 4),
    1: BlockType("F16", 1, 2),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    10: BlockType("Q2_K", 256, 84),
    11: BlockType("Q3_K", 256, 110),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    20: BlockType("IQ4_NL", 32, 18),
    23: BlockType("IQ4_XS", 256, 136),
    30: BlockType("BF16", 1, 2),
}


@dataclass(frozen=True, slots=True, repr=False)
class LargeArray:
    """A metadata array that stays in the file until it is asked for."""

    file: Path
    kind: int  # of its elements
    count: int
    start: int
    end: int

    def __repr__(self) -> str:
        """As messages show it."""
        return f"an array of {self.count}"

    def values(self) -> list[Any]:
        """The elements. Raises `ModelError` if a string is not UTF-8."""
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            cursor = _Cursor(stream.read(self.end - self.start), self.file)
        return list(cursor.elements(self.kind, self.count))


class GgufTensor(NamedTuple):
    """Where a tensor lies and what it holds."""

    file: Path
    type: BlockType
    shape: tuple[int, ...]  # in torch's order: numbers of the last dimension are neighbours
    offset: int  # in the file

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) // self.type.numbers * self.type.bytes


@dataclass(frozen=True, slots=True)
class GgufFile:
    """The description of a model in one GGUF file, or in all parts of a split one."""

    path: Path
    fields: Mapping[str, Any]  # metadata of the first part
    tensors: Mapping[str, GgufTensor]  # of all parts

    def get(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """A metadata field; the default if there is none. Raises `ModelError` for a field of another type."""
        found = self.fields.get(name)
        if found is None:
            return default
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise ModelError(f"{self.path} cannot be understood: {name} is {shown(found)}")
        return found

    def values(self, name: str) -> list[Any] | None:
        """The elements of an array field; None if there is none. Raises `ModelError` if it is no array."""
        found = self.get(name, (list, LargeArray))
        return found.values() if isinstance(found, LargeArray) else found

    def floats(self, name: str) -> list[float]:
        """The numbers of a small tensor in float32. Raises `ModelError` if it is none."""
        tensor = self.tensors[name]
        if tensor.type.name != "F32" or tensor.num_bytes > MOST_FLOATS * 4:
            raise ModelError(f"{name} in {self.path} is {tensor.type.name} of shape {list(tensor.shape)}: it must be a few F32")
        with tensor.file.open("rb") as stream:
            stream.seek(tensor.offset)
            return list(struct.unpack(f"<{tensor.num_bytes // 4}f", stream.read(tensor.num_bytes)))

    @property
    def architecture(self) -> str:
        """The architecture's name in llama.cpp. Raises `ModelError` if the file does not say it."""
        found: str | None = self.get("general.architecture", str)
        if not found:
            raise ModelError(f"{self.path} cannot be understood: it names no general.architecture")
        return found


def is_gguf(path: Path) -> bool:
    """Whether a path is a GGUF file, by its first bytes or its name."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC or path.suffix == ".gguf"
    except OSError:
        return path.suffix == ".gguf"


def gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder without safetensors files, the first part of a split one; None if it holds none.

    Raises `ModelError` if it holds several models.
    """
    found = sorted(folder.glob("*.gguf"))
    if not found or any(folder.glob("*.safetensors")):
        return None
    models = [path for path in found if (match := PART.fullmatch(path.name)) is None or int(match[2]) == 1]
    if len(models) > 1:
        names = ", ".join(path.name for path in models[:3]) + (", …" if len(models) > 3 else "")
        raise ModelError(f"{folder} holds {len(models)} models: give one of its files, such as {names}")
    return models[0] if models else found[0]


def read_gguf(path: Path) -> GgufFile:
    """The description of the model in a file.

    Raises `ModelError` if the file, or a part of a split one, is missing, damaged or of an unknown kind.
    """
    first, *others = (_read_part(part) for part in (path, *_other_parts(path)))
    if not others:
        return first
    tensors = dict[str, GgufTensor]()
    for part in (first, *others):
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise ModelError(f"{path} cannot be understood: two of its files hold {shown(name)}")
            tensors[name] = tensor
    stated = first.get("split.tensors.count", int)
    if stated is not None and stated != len(tensors):
        raise ModelError(f"{path} cannot be understood: it has {len(tensors)} tensors and says {stated}: download it again")
    return GgufFile(path, first.fields, tensors)


def _other_parts(path: Path) -> list[Path]:
    """The files after the first of a split model. Raises `ModelError` if the path is not the first, or one is missing."""
    match = PART.fullmatch(path.name)
    if match is None:
        return []
    stem, _, count = match.groups()
    names = [f"{stem}-{number:05}-of-{count}.gguf" for number in range(1, int(count) + 1)]
    if path.name not in names[:1]:
        raise ModelError(f"{path} is part of a split model: give the first part, {stem}-00001-of-{count}.gguf")
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise ModelError(f"{path} has {len(names)} parts, and {missing[0]} is missing: download all of them")
    return [path.parent / name for name in names[1:]]


def _stat(path: Path) -> Any:
    try:
        return path.stat()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {unreadable(error)}") from None


def _read_part(path: Path) -> GgufFile:
    """One file's description, read again when the file changes. Raises `ModelError`."""
    state = _stat(path)
    return _read_once(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_once(path: Path, size: int, _modified: int) -> GgufFile:
    try:
        with path.open("rb") as stream:
            _check_start(path, stream.read(24))
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(path, data, size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {unreadable(error)}") from None


def _check_start(path: Path, start: bytes) -> None:
    """Raise `ModelError` unless a file begins as a GGUF file that can be read."""
    if start[:4] != MAGIC:
        raise ModelError(f"{path} is not a GGUF file: it does not begin with {MAGIC.decode()}")
    if len(start) < 24:
        raise ModelError(f"{path} is truncated: download it again")
    version = int.from_bytes(start[4:8], "little")
    if version in VERSIONS:
        return
    if int.from_bytes(start[4:8], "big") in VERSIONS:
        raise ModelError(f"{path} is a big-endian GGUF file: only little-endian ones are supported")
    raise ModelError(f"{path} is a GGUF file of version {version}: versions 2 and 3 are supported, so convert the model again")


def _parse(path: Path, data: mmap.mmap, size: int) -> GgufFile:
    cursor = _Cursor(data, path)
    cursor.at = 8
    num_tensors, num_fields = cursor.unpack("Q"), cursor.unpack("Q")
    cursor.check_count(num_tensors, MOST_TENSORS, "tensors")
    cursor.check_count(num_fields, MOST_FIELDS, "metadata fields")
    fields = dict[str, Any]()
    for _ in range(num_fields):
        name = cursor.name()
        if name in fields:
            raise ModelError(f"{path} cannot be understood: it has two fields {shown(name)}")
        fields[name] = cursor.value(cursor.unpack("I"))
    described = [(cursor.name(), *cursor.tensor()) for _ in range(num_tensors)]
    alignment = fields.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 2**16 or alignment & (alignment - 1):
        raise ModelError(f"{path} cannot be understood: general.alignment is {shown(alignment)}")
    first = -(-cursor.at // alignment) * alignment
    tensors = dict[str, GgufTensor]()
    for name, shape, kind, offset in described:
        if name in tensors:
            raise ModelError(f"{path} cannot be understood: it has two tensors {shown(name)}")
        tensors[name] = tensor = GgufTensor(path, kind, shape, first + offset)
        if kind.numbers > 1 and (not shape or shape[-1] % kind.numbers):
            raise ModelError(f"{path} cannot be understood: rows of {shown(name)} are not whole blocks of {kind.name}")
        if offset % alignment or tensor.offset + tensor.num_bytes > size:
            raise ModelError(f"{path} is truncated or damaged: {shown(name)} does not lie inside it: download it again")
    _check_overlaps(path, tensors)
    return GgufFile(path, fields, tensors)


def _check_overlaps(path: Path, tensors: Mapping[str, GgufTensor]) -> None:
    """Raise `ModelError` if two tensors share bytes."""
    end, before = 0, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset < end:
            raise ModelError(f"{path} is damaged: {shown(before)} and {shown(name)} share bytes: download it again")
        end, before = tensor.offset + tensor.num_bytes, name


class _Cursor:
    """Reads values one after the other. Errors are `ModelError`s."""

    def __init__(self, data: mmap.mmap | bytes, file: Path) -> None:
        self.data, self.file, self.at = data, file, 0
        self.end = min(len(data), MOST_HEADER_BYTES)

    def unpack(self, kind: str) -> Any:
        """A number."""
        start = self.advance(struct.calcsize(f"<{kind}"))
        return struct.unpack_from(f"<{kind}", self.data, start)[0]

    def advance(self, count: int) -> int:
        """Pass `count` bytes; return where they begin."""
        start = self.at
        if count > self.end - start:
            short = self.end < len(self.data)
            problem = f"its header has more than {MOST_HEADER_BYTES} bytes" if short else "it ends inside its header"
            raise ModelError(f"{self.file} cannot be read: {problem}: download it again")
        self.at += count
        return start

    def check_count(self, count: int, most: int, what: str) -> None:
        if count > most:
            raise ModelError(f"{self.file} cannot be read: it says that it has {count} {what}, at most {most} are read")

    def string(self) -> str:
        length = self.unpack("Q")
        start = self.advance(length)
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError:
            raise ModelError(f"{self.file} cannot be understood: a text at byte {start} is not UTF-8") from None

    def name(self) -> str:
        start = self.at
        found = self.string()
        self.check_count(self.at - start - 8, MOST_NAME_BYTES, "bytes in a name")
        return found

    def value(self, kind: int) -> Any:
        """A metadata value; a `LargeArray` for one that is not small."""
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.unpack(self.scalar(kind))
        kind, count = self.unpack("I"), self.unpack("Q")
        start = self.at
        if kind == STRING:
            self.check_count(count, self.end // 8, "strings in an array")
            for _ in range(count):
                self.advance(self.unpack("Q"))
        else:
            self.advance(count * struct.calcsize(f"<{self.scalar(kind)}"))
        array = LargeArray(self.file, kind, count, start, self.at)
        if array.end - array.start > SMALL:
            return array
        self.at = start
        return list(self.elements(kind, count))

    def elements(self, kind: int, count: int) -> Iterator[Any]:
        """The elements of an array at this place."""
        if kind == STRING:
            return (self.string() for _ in range(count))
        name = f"<{count}{self.scalar(kind)}"
        return iter(struct.unpack_from(name, self.data, self.advance(struct.calcsize(name))))

    def scalar(self, kind: int) -> str:
        if kind not in SCALARS:
            raise ModelError(f"{self.file} cannot be understood: it holds metadata of the unknown type {kind}")
        return SCALARS[kind]

    def tensor(self) -> tuple[tuple[int, ...], BlockType, int]:
        """A tensor's shape, number format, and offset from the first tensor."""
        dimensions = self.unpack("I")
        self.check_count(dimensions, MOST_DIMENSIONS, "dimensions of a tensor")
        shape = tuple(self.unpack("Q") for _ in range(dimensions))[::-1]
        kind, offset = self.unpack("I"), self.unpack("Q")
        if kind not in TYPES:
            known = ", ".join(each.name for each in TYPES.values())
            raise ModelError(f"{self.file} holds tensors of ggml's type {kind}, which is not supported: known are {known}")
        return shape, TYPES[kind], offset
