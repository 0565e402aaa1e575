"""The matrices of GGUF files that stay integers: which layers keep them, and weights to fill with their blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.gguf_levels import KEPT_TYPES, ROUNDED, Levels
from orcinus.runtime.gguf_weights import dequantized
from orcinus.runtime.grouped_weights import GroupedWeight, GroupGrid
from orcinus.runtime.linear_weight import LayerFormats, LinearWeight, PackedWeight, Split
from orcinus.runtime.models import Decoder, Family
from orcinus.runtime.models.mixture import UNQUANTIZED
from orcinus.runtime.rounded_weights import Rounded8
from orcinus.runtime.tensor_match import EMBEDDING
from orcinus.runtime.weight_files import TensorHeader


@dataclass(frozen=True, slots=True)
class JoinedWeight(PackedWeight):
    """Weights on several grids, whose outputs lie side by side."""

    weights: tuple[GroupedWeight, ...]
    split: Split

    @property
    def shape(self) -> tuple[int, int]:
        return sum(each.shape[0] for each in self.weights), self.weights[0].shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    @property
    def num_bytes(self) -> int:
        return sum(each.num_bytes for each in self.weights)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        product = torch.cat([each.multiply(x, None) for each in self.weights], dim=1)
        return product if bias is None else product.add_(bias)


@dataclass(frozen=True, slots=True)
class StoredBlocks:
    """Blocks of a GGUF file `[outputs, bytes]`, to be filled: one tensor, or one for each part if their types differ."""

    blocks: tuple[Tensor, ...]
    types: tuple[str, ...]  # of the parts
    shape: tuple[int, int]
    split: Split

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    @property
    def num_bytes(self) -> int:
        """Bytes of the weight that is served."""
        return sum(grid.bytes_of((sum(outputs), self.shape[1])) for grid, outputs in self._grids())

    def tensors(self) -> dict[str, Tensor]:
        """The first part's blocks, if there are several: `part` has the others."""
        return {"weight": self.blocks[0]}

    def split_dim(self, name: str) -> int:
        return self.split.dim

    def part(self, name: str, part: int | None) -> Tensor:
        if len(self.blocks) > 1:
            assert part is not None, "parts of several types are stored apart"
            return self.blocks[part]
        return self.blocks[0] if self.split.dim else self.blocks[0][self.split.span(part)]

    def process_after_loading(self) -> LinearWeight:
        """The packed weight: neighbouring parts on one grid are one."""
        types = self.types if len(self.blocks) > 1 else self.types[:1]
        parts = [KEPT_TYPES[kind].levels(blocks) for kind, blocks in zip(types, self.blocks, strict=True)]
        made, left = [], iter(parts)
        for grid, outputs in self._grids() if len(parts) > 1 else [(KEPT_TYPES[types[0]].grid, [self.shape[0]])]:
            levels = [next(left) for _ in outputs]
            made.append(_packed(levels, grid, self.split))
        return made[0] if len(made) == 1 else JoinedWeight(tuple(made), self.split)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return self.process_after_loading().multiply(x, bias)

    def _grids(self) -> Iterator[tuple[GroupGrid, list[int]]]:
        """Neighbouring parts on one grid, by their outputs."""
        sizes = [self.shape[0]] if self.split.dim else [part.size for part in self.split.parts]
        for grid, same in groupby(zip(self.types, sizes, strict=True), lambda each: KEPT_TYPES[each[0]].grid):
            yield grid, [size for _, size in same]


def _packed(parts: list[Levels], grid: GroupGrid, split: Split) -> GroupedWeight:
    levels, scales = (torch.cat([part[number] for part in parts]) for number in (0, 1))  # type: ignore[misc]
    offsets = None if grid.offsets is None else torch.cat([part[2] for part in parts if part[2] is not None])
    return GroupedWeight.from_levels(levels, scales, offsets, split, group=grid.group, bits=grid.bits)


@dataclass(frozen=True, slots=True)
class GgufFormat:
    """The format of a layer whose blocks are kept."""

    types: tuple[str, ...]  # of the parts
    product: str = "int4"

    def make(self, shape: tuple[int, int], split: Split, dtype: torch.dtype, device: torch.device) -> LinearWeight:
        """Empty blocks."""
        del dtype
        outputs, inputs = shape
        sizes = [outputs] if len(set(self.types)) == 1 else [part.size for part in split.parts]
        blocks = tuple(
            torch.empty(size, inputs // kind.numbers * kind.bytes, dtype=torch.uint8, device=device)
            for size, kind in zip(sizes, (KEPT_TYPES[name] for name in self.types), strict=False)
        )
        return StoredBlocks(blocks, self.types, shape, split)

    def check_shards(self, slices: Iterable[slice]) -> None:
        """Raise `ConfigError` if ranks would cut a block."""
        numbers = max(KEPT_TYPES[kind].numbers for kind in self.types)
        for shard in slices:
            if shard.start % numbers:
                raise ConfigError(
                    f"the file keeps blocks of {numbers} inputs, and a rank's part would begin at input {shard.start}, inside "
                    "one: choose another tp, or quantization none"
                )


@dataclass(frozen=True, slots=True)
class GgufTable:
    """The format of an embedding whose blocks are kept.

    A row has ggml's numbers, or those of the head's product if the head is the embedding.
    """

    type: str

    def row_bytes(self, size: int) -> int:
        """Bytes of a row's blocks."""
        kind = KEPT_TYPES[self.type]
        return size // kind.numbers * kind.bytes

    def read(self, stored: Tensor) -> Tensor:
        """Rows of blocks as numbers in float32."""
        return dequantized(stored.numpy(), self.type)

    def weight(self, stored: Tensor, size: int, split: Split) -> LinearWeight:
        """All blocks as the weight of a head."""
        return StoredBlocks((stored,), (self.type,), (len(stored), size), split)


@dataclass(frozen=True, slots=True)
class GgufMatrices:
    """What a GGUF file's layers keep."""

    formats: LayerFormats
    types: Mapping[str, str]  # of the tensors that are kept, by name

    def headers(self, files: Mapping[str, TensorHeader]) -> dict[str, TensorHeader]:
        """The headers of the file, with those of kept tensors as bytes."""
        return {name: _as_bytes(header) if name in self.types else header for name, header in files.items()}

    def files_of(self, names: Iterable[str]) -> set[str]:
        """The tensors of the file behind some names of `headers`."""
        return set(names)

    @property
    def summary(self) -> str:
        """The types of the layers' matrices, for people."""
        return "GGUF, " + ", ".join(f"{count} of {kind}" for kind, count in Counter(self.types.values()).most_common())

    def notes(self, quantization: str | None) -> Iterator[str]:
        """What is not as in the file."""
        if found := [kind for kind in ROUNDED if kind in self.types.values()]:
            yield (
                f"GGUF: matrices of {' and '.join(found)} are rounded to 8 bits in groups of 32, which moves them by less than "
                "half a percent; quantization none keeps their numbers"
            )


def _as_bytes(header: TensorHeader) -> TensorHeader:
    kind, (*rows, inputs) = KEPT_TYPES[header.dtype], header.shape
    return TensorHeader("U8", (*rows, inputs // kind.numbers * kind.bytes))


def kept_matrices(files: Mapping[str, TensorHeader], family: Family, outline: Decoder) -> GgufMatrices:
    """The matrices that stay as they are: layers of which every part is stored in a type with a product."""
    linears = outline.linears()
    found: dict[str, dict[int, str]] = {}
    names: dict[str, list[str]] = {}
    for name, header in files.items():
        place = family.place(name)
        if place is None or header.dtype not in KEPT_TYPES or len(header.shape) != 2 + place.stacked:
            continue
        for parameter in place.parameters(outline.spec.num_experts):
            layer = parameter.removesuffix(".weight")
            if layer in linears and layer.rpartition(".")[2] not in UNQUANTIZED:
                parts = range(len(linears[layer].weight.split.parts)) if place.part is None else (place.part,)
                found.setdefault(layer, {}).update(dict.fromkeys(parts, header.dtype))
                names.setdefault(layer, []).append(name)
    whole = {layer: kinds for layer, kinds in found.items() if len(kinds) == len(linears[layer].weight.split.parts)}
    layers = tuple((layer, GgufFormat(tuple(kinds[at] for at in sorted(kinds)))) for layer, kinds in whole.items())
    types = {name: files[name].dtype for layer in whole for name in names[layer]}
    table = next((name for name in files if (place := family.place(name)) and place.parameter == EMBEDDING), None)
    embedding = None
    if table is not None and files[table].dtype in KEPT_TYPES:
        types[table] = files[table].dtype
        embedding = GgufTable(types[table])
    return GgufMatrices(LayerFormats(layers, Rounded8 if layers else None, embedding), types)
