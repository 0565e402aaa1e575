"""Formats in which layers keep the integers of a checkpoint, without rounding them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from orcinus.runtime.linear_weight import LinearWeight, Split, WeightFormat
from orcinus.runtime.quant_methods.layout import Blocks
from orcinus.runtime.weight_files import TensorHeader


@dataclass(frozen=True, slots=True)
class StoredIntegers:
    """Integers `[outputs, inputs]` with their scales, to be filled and then packed for products."""

    weight: Tensor
    tables: Mapping[str, Tensor]  # scales and others, `[outputs]` or `[outputs, groups]`; ranks' regions are counted in inputs
    split: Split
    num_bytes: int  # once they are packed
    pack: Callable[[Tensor, Mapping[str, Tensor], Split], LinearWeight]

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, **self.tables}

    def split_dim(self, name: str) -> int | None:
        return self.split.dim if self.split.dim < self.tensors()[name].dim() else None

    def part(self, name: str, part: int | None) -> Tensor:
        tensor = self.tensors()[name]
        return tensor if self.split.dim else tensor[self.split.span(part)]  # what is split by inputs has one part

    def process_after_loading(self) -> LinearWeight:
        return self.pack(self.weight, self.tables, self.split)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return self.process_after_loading().multiply(x, bias)


class StoredFormat(WeightFormat, Protocol):
    """How a module's numbers become the tensors of a layer that keeps them."""

    def headers(self, shape: tuple[int, int]) -> dict[str, TensorHeader]:
        """The layer's tensors for a module of this shape: `weight`, `scale` and maybe others."""
        ...

    def check(self, blocks: Blocks) -> None:
        """Raise `ModelError` if the scales and zero points are not what the settings promise."""
        ...

    def integers(self, blocks: Blocks, codes: Tensor, rows: Tensor, columns: range) -> Tensor:
        """What `weight` holds for codes `[rows, columns]`."""
        ...

    def table(self, kind: str, blocks: Blocks, rows: Tensor, columns: range) -> Tensor:
        """What another tensor holds for some outputs and inputs."""
        ...
