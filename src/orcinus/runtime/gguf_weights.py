"""The weights of GGUF files, dequantised as they are read.

Numbers are those of ggml's own Python library, in float32, rounded once to the model's dtype.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orcinus.errors import ModelError
from orcinus.gguf_config import GgufArchitecture
from orcinus.gguf_file import GgufTensor, read_gguf
from orcinus.runtime.models import ARCHITECTURES, DecoderSpec, Family
from orcinus.runtime.models.family import Place, TensorNames
from orcinus.runtime.models.row_order import Rows, paired_keys, paired_qkv, paired_queries
from orcinus.runtime.stored_tensor import put

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
AT_ONCE = 2**21  # numbers that are dequantised at once
LAYER = re.compile(r"blk\.(\d+)\.(.+)\.(\w+)")
IGNORED = re.compile(r"rope_(?:freqs|factors_long|factors_short)\.weight|blk\.\d+\.attn_rot_embd\.weight")
FACTORS = "rope_freqs.weight"
PAIRED = {"attn_q": paired_queries, "attn_k": paired_keys, "attn_qkv": paired_qkv}
EVERYTHING = (slice(None), slice(None))
Data = npt.NDArray[np.uint8]


@lru_cache(maxsize=8)
def gguf_family(row: GgufArchitecture) -> Family:
    """The family of a GGUF architecture, with the names that llama.cpp gives to its tensors."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    family = ARCHITECTURES[row.name]
    architecture = next(number for number, known in MODEL_ARCH_NAMES.items() if known == row.llama_cpp)
    outer, inner = {}, {}
    for original, (_, stored) in get_tensor_name_map(architecture, 1).mapping.items():
        if (place := family.module(original)) is None:
            continue
        place = replace(place, transposed=False, order=None)  # llama.cpp has its own: matrices are all [outputs, inputs]
        if stored.startswith("blk.0."):
            inner[stored.removeprefix("blk.0.")] = place
        else:
            outer[stored] = place
    claimed = {*row.tensors.values()}
    inner = {name: place for name, place in inner.items() if (place.parameter, place.part) not in claimed}
    inner |= {name: Place(module, part) for name, (module, part) in row.tensors.items()}
    if row.paired:
        inner |= {name: replace(inner[name], order=order) for name, order in PAIRED.items() if name in inner}
    return replace(family, names=TensorNames(outer, LAYER, inner, IGNORED, layers="blk"))


def scaled_rope(spec: DecoderSpec, path: Path) -> DecoderSpec:
    """The spec with the rotary frequencies that a file scales (Llama 3.1 and later).

    Raises `ModelError` if there are too few or too many.
    """
    file = read_gguf(path)
    if FACTORS not in file.tensors or not spec.ropes:
        return spec
    factors = file.floats(FACTORS)
    (rope,) = spec.ropes
    frequencies = rope.inverse_frequencies
    if len(factors) != len(frequencies) or not all(factor > 0 for factor in factors):
        raise ModelError(f"{FACTORS} in {path} must be {len(frequencies)} numbers above 0")
    scaled = tuple(frequency / factor for frequency, factor in zip(frequencies, factors, strict=True))
    return replace(spec, ropes=(replace(rope, inverse_frequencies=scaled, kind="llama3"),))


def read_gguf_tensors(path: Path, wanted: Mapping[str, Place], spec: DecoderSpec) -> Iterator[tuple[str, DequantizedTensor]]:
    """The wanted tensors of a file and its other parts, in the order of the files."""
    for name, tensor in read_gguf(path).tensors.items():
        if name in wanted:
            order = wanted[name].order
            yield name, DequantizedTensor(tensor, None if order is None else order(spec))


@dataclass(frozen=True, slots=True)
class DequantizedTensor:
    """A tensor in its file. It is read, and takes memory, only in pieces."""

    tensor: GgufTensor
    order: Rows | None = None  # the file's row for each of the decoder's; None = they are in the same order

    def copy_to(self, target: Tensor, region: tuple[slice | int, ...], *, transposed: bool) -> None:
        """Fill `target` with a region of the tensor: in the dtype of the target, or with its blocks if that is bytes."""
        assert not transposed, "matrices of GGUF files are [outputs, inputs]"
        data, shape = _mapped(self.tensor), self.tensor.shape
        as_blocks = target.dtype is torch.uint8
        if len(shape) == 1:
            numbers = self._numbers(data, range(shape[0]))
            put((numbers if self.order is None else numbers[self.order])[region], target, transposed=False)
            return
        if region and isinstance(region[0], int):  # a matrix of several
            data, shape, region = data[region[0]], shape[1:], region[1:]
        sides = [part for part in (*region, *EVERYTHING) if isinstance(part, slice)]
        rows, columns = (range(size)[part] for size, part in zip(shape, sides, strict=False))
        step = max(1, AT_ONCE // max(1, len(columns)))
        for first in range(rows.start, rows.stop, step):
            last = min(first + step, rows.stop)
            here = slice(first, last) if self.order is None else self.order[first:last]
            some = torch.from_numpy(self._blocks(data[here], columns)) if as_blocks else self._numbers(data[here], columns)
            put(some, target[first - rows.start : last - rows.start], transposed=False)

    def _blocks(self, data: Data, columns: range) -> Data:
        """The blocks that hold some columns."""
        kind = self.tensor.type
        return np.array(data[..., columns.start // kind.numbers * kind.bytes : -(-columns.stop // kind.numbers) * kind.bytes])

    def _numbers(self, data: Data, columns: range) -> Tensor:
        """The numbers of some columns, from the blocks that hold them; the last dimension of `data` is bytes."""
        kind = self.tensor.type
        start = columns.start // kind.numbers * kind.numbers
        return dequantized(self._blocks(data, columns), kind.name)[..., columns.start - start : columns.stop - start]


def _mapped(tensor: GgufTensor) -> Data:
    """A tensor's bytes, mapped from its file; the last dimension is the bytes of a row."""
    *rows, numbers = tensor.shape
    shape = (*rows, numbers // tensor.type.numbers * tensor.type.bytes)
    return np.memmap(tensor.file, np.uint8, "r", tensor.offset, shape)


def dequantized(blocks: Data, kind: str) -> Tensor:
    """Numbers from bytes `[..., bytes]`: as they are if they are floats, else in float32."""
    if kind in FLOATS:
        return torch.from_numpy(blocks).view(FLOATS[kind])
    from gguf import GGMLQuantizationType, dequantize

    return torch.from_numpy(dequantize(blocks, GGMLQuantizationType[kind]))
