"""The protocol of linear weights, and how ranks may split them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Protocol, Self

import torch
from torch import Tensor

from orcinus.errors import ConfigError


class SplitKind(Enum):
    """How ranks split a linear layer (Megatron-LM, section 3)."""

    COLUMN = "column"  # some outputs, from all inputs
    ROW = "row"  # some inputs: the ranks' products are summed
    VOCABULARY = "vocabulary"  # some outputs, which are gathered: logits


def share(count: int, rank: int, ranks: int) -> range:
    """A rank's share of `count` things, as equal as possible.

    The first ranks may have one more.
    """
    each, rest = divmod(count, ranks)
    first = rank * each + min(rank, rest)
    return range(first, first + each + (rank < rest))


@dataclass(frozen=True, slots=True)
class SplitPart:
    """Neighbouring outputs or inputs in equal units that ranks may not cut.

    Units may form equal groups: query heads that share a key/value head. Ranks get whole groups while there are enough.
    """

    size: int
    units: int  # heads, for example
    groups: int | None = None  # None: each unit is a group of its own
    shared: bool = False  # whether several ranks may hold one unit: key and value heads, if there are fewer than ranks

    def shard(self, rank: int, ranks: int) -> slice:
        """A rank's slice of this part.

        Raises `ConfigError` if there are fewer units than ranks.
        """
        width = self.size // self.units
        if self.units < ranks and not self.shared:
            raise ConfigError(f"{self.units} units of {width} cannot be divided over {ranks} ranks: use at most {self.units}")
        units = self._units(rank, ranks)
        return slice(units.start * width, units.stop * width)

    def holders(self, rank: int, ranks: int) -> int:
        """Ranks that hold the same units as this one, itself included."""
        mine = self.shard(rank, ranks)
        return sum(self.shard(other, ranks) == mine for other in range(ranks))

    def _units(self, rank: int, ranks: int) -> range:
        groups = self.groups or self.units
        each = self.units // groups
        if groups >= ranks:
            mine = share(groups, rank, ranks)
            return range(mine.start * each, mine.stop * each)
        group = next(group for group in range(groups) if rank in share(ranks, group, groups))
        if self.shared:
            return range(group, group + 1)
        holders = share(ranks, group, groups)  # ranks that divide the units of this group
        mine = share(each, rank - holders.start, len(holders))
        return range(group * each + mine.start, group * each + mine.stop)


@dataclass(frozen=True, slots=True)
class Split:
    """How a weight may be split over ranks.

    It names the dimension and its units. The parts are those of a fused weight (query, key, value; gate, up); they lie one
    after the other along the dimension.
    """

    kind: SplitKind
    parts: tuple[SplitPart, ...]

    @classmethod
    def columns(cls, outputs: int) -> Split:
        """By outputs, wherever one likes."""
        return cls(SplitKind.COLUMN, (SplitPart(outputs, outputs),))

    @property
    def dim(self) -> int:
        """The dimension that is split, of a weight `[outputs, inputs]`."""
        return 1 if self.kind is SplitKind.ROW else 0

    @property
    def size(self) -> int:
        """Length of that dimension."""
        return sum(part.size for part in self.parts)

    def span(self, part: int | None) -> slice:
        """The slice of a part; None is the whole dimension."""
        if part is None:
            return slice(None)
        start = sum(each.size for each in self.parts[:part])
        return slice(start, start + self.parts[part].size)

    def shards(self, rank: int, ranks: int) -> tuple[slice, ...]:
        """A rank's slice of each part. Raises `ConfigError` for cut units."""
        return tuple(each.shard(rank, ranks) for each in self.parts)

    def of_rank(self, rank: int, ranks: int) -> Split:
        """The split of a rank's own weight. Raises `ConfigError` for cut units."""
        if ranks == 1:
            return self
        sizes = [shard.stop - shard.start for shard in self.shards(rank, ranks)]
        units = [size * part.units // part.size for size, part in zip(sizes, self.parts, strict=True)]
        return Split(self.kind, tuple(map(SplitPart, sizes, units)))


class LinearWeight(Protocol):
    """A weight `[outputs, inputs]` in some format."""

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the product, however the numbers are stored."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the weight is stored."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes of the loaded weight."""
        ...

    @property
    def split(self) -> Split:
        """How ranks may split it; formats with groups have larger units."""
        ...

    def tensors(self) -> Mapping[str, Tensor]:
        """Tensors to fill, by the last part of their checkpoint names.

        These are `weight`, `scale`, and so on.
        """
        ...

    def split_dim(self, name: str) -> int | None:
        """The dimension along which ranks split a tensor.

        None: every rank holds all of it.
        """
        ...

    def part(self, name: str, part: int | None) -> Tensor:
        """The view of a tensor for one part; None: the whole tensor."""
        ...

    def process_after_loading(self) -> LinearWeight:
        """The weight to serve with after loading: itself, or a faster layout."""
        ...

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x · weightᵀ + bias, in the dtype of x.

        `[rows, inputs]` -> `[rows, outputs]`.
        """
        ...


class PackedWeight:
    """Base of weights in a layout that nothing can be loaded into."""

    __slots__ = ()

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def split_dim(self, name: str) -> int | None:
        raise KeyError(f"{name}: a packed weight has no tensors to fill")

    def part(self, name: str, part: int | None) -> Tensor:
        raise KeyError(f"{name}: a packed weight has no tensors to fill")

    def process_after_loading(self) -> Self:
        return self


class WeightFormat(Protocol):
    """How a linear layer is filled from a checkpoint that does not store plain weights."""

    @property
    def product(self) -> str:
        """The format that multiplies it, in `QUANTIZED_WEIGHTS`."""
        ...

    def make(self, shape: tuple[int, int], split: Split, dtype: torch.dtype, device: torch.device) -> LinearWeight:
        """An empty weight. The dtype is that of the model, not of the stored numbers."""
        ...

    def check_shards(self, slices: Iterable[slice]) -> None:
        """Raise `ConfigError` if ranks cannot have these slices of the inputs."""
        ...


class Quantizer(Protocol):
    """A format that plain weights are turned into."""

    def quantize(self, weight: Tensor, split: Split) -> LinearWeight:
        """The quantised copy of a weight `[outputs, inputs]`."""
        ...

    def bytes_of(self, shape: tuple[int, int]) -> int:
        """Bytes of a weight of this shape."""
        ...


class TableFormat(Protocol):
    """How the rows of an embedding are stored, which are read when they are looked up."""

    def row_bytes(self, size: int) -> int:
        """Bytes of a row of `size` numbers."""
        ...

    def read(self, stored: Tensor) -> Tensor:
        """Rows `[T, bytes]` as numbers `[T, size]`."""
        ...

    def weight(self, stored: Tensor, size: int, split: Split) -> LinearWeight:
        """All rows as the weight of a tied head, to be packed."""
        ...


@dataclass(frozen=True)
class LayerFormats:
    """The formats of linear layers by name; layers that are not listed are plain."""

    layers: tuple[tuple[str, WeightFormat], ...] = ()
    tied_head: Quantizer | None = None  # what a head is turned into that is a plain embedding
    embedding: TableFormat | None = None  # None: it is plain

    def of(self, name: str) -> WeightFormat | None:
        """The format of a layer; None if it is plain."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, WeightFormat]:
        """A model of many experts has thousands."""
        return dict(self.layers)

    @property
    def products(self) -> frozenset[str]:
        """The formats of all products but plain ones."""
        return frozenset(each.product for _, each in self.layers)


PLAIN_LAYERS = LayerFormats()
