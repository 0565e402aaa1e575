"""The protocol of linear weights, and how ranks may split them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import torch
from torch import Tensor

from orcinus.errors import ConfigError


class SplitKind(Enum):
    """What each rank holds of a linear layer (Megatron-LM, section 3)."""

    COLUMN = "column"  # some outputs, from all inputs
    ROW = "row"  # some inputs: the ranks' products are summed
    VOCABULARY = "vocabulary"  # some outputs, as many as the other ranks or one fewer


@dataclass(frozen=True, slots=True)
class SplitPart:
    """Neighbouring outputs or inputs in equal units that ranks may not cut."""

    size: int
    units: int  # heads, for example
    shared: bool = False  # whether several ranks may hold one unit: key and value heads, if there are fewer than ranks

    def shard(self, rank: int, ranks: int) -> slice:
        """What a rank holds. Raises `ConfigError` if the units cannot be divided so."""
        width = self.size // self.units
        if self.units % ranks == 0:
            units = self.units // ranks
            return slice(rank * units * width, (rank + 1) * units * width)
        if self.shared and ranks % self.units == 0:
            unit = rank * self.units // ranks
            return slice(unit * width, (unit + 1) * width)
        raise ConfigError(f"{self.units} units of {width} cannot be divided over {ranks} ranks: use a divisor of {self.units}")


@dataclass(frozen=True, slots=True)
class Split:
    """How a weight may be split over ranks: the dimension and its units.

    The parts are those of a fused weight (query, key, value; gate, up); they lie one after the other along the dimension.
    """

    kind: SplitKind
    parts: tuple[SplitPart, ...]

    @property
    def dim(self) -> int:
        """The dimension of a weight `[outputs, inputs]` that is divided."""
        return 1 if self.kind is SplitKind.ROW else 0

    def span(self, part: int | None) -> slice:
        """Where a part lies; None is the whole dimension."""
        if part is None:
            return slice(None)
        start = sum(each.size for each in self.parts[:part])
        return slice(start, start + self.parts[part].size)

    def shards(self, rank: int, ranks: int) -> tuple[slice, ...]:
        """A rank's slice of each part. Raises `ConfigError` if units would be cut."""
        if self.kind is SplitKind.VOCABULARY:
            return tuple(slice(each.size * rank // ranks, each.size * (rank + 1) // ranks) for each in self.parts)
        return tuple(each.shard(rank, ranks) for each in self.parts)


class LinearWeight(Protocol):
    """A weight `[outputs, inputs]` in some format; `LINEAR_WEIGHTS` lists them."""

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the product, however the numbers are stored."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """In which the weight is stored."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes it takes once it is loaded."""
        ...

    @property
    def split(self) -> Split:
        """How it may be split over ranks; formats with groups have larger units."""
        ...

    def tensors(self) -> Mapping[str, Tensor]:
        """What a checkpoint fills, by the last part of its name there: `weight`, `scale`."""
        ...

    def part(self, name: str, part: int | None) -> Tensor:
        """The view of a tensor for one part; None is all of it."""
        ...

    def process_after_loading(self) -> LinearWeight:
        """The weight to serve with after loading: itself, or a faster layout."""
        ...

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x · weightᵀ + bias, in the dtype of x.

        `[rows, inputs]` -> `[rows, outputs]`.
        """
        ...


# Shape, split, dtype of the model (not of the stored numbers) and device -> a weight that waits to be filled.
MakeLinearWeight = Callable[[tuple[int, int], Split, torch.dtype, torch.device], LinearWeight]
# A checkpoint's quantization_config -> how to make its weights.
LinearFormat = Callable[[Mapping[str, Any]], MakeLinearWeight]
