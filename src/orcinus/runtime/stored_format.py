"""Formats in which layers keep the integers of a checkpoint."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from orcinus.runtime.linear_weight import WeightFormat
from orcinus.runtime.quant_methods.layout import Blocks
from orcinus.runtime.weight_files import TensorHeader


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
