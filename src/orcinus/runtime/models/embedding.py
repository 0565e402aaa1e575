"""Embeddings of tokens and positions: tables whose rows are looked up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orcinus.runtime.grouped_weights import GroupedWeight
from orcinus.runtime.linear_weight import LinearWeight, TableFormat
from orcinus.runtime.models.linear import Factory


class Embedding(nn.Module):
    """A rank's rows of a table `[rows, size]` of vectors, as numbers or in blocks of a checkpoint.

    The sum of all ranks' results is the whole table's result.
    """

    def __init__(self, make: Factory, rows: int, size: int, stored: TableFormat | None = None) -> None:
        super().__init__()
        self.rows, self.whole, self.size, self.stored = make.share(rows), len(make.share(rows)) == rows, size, stored
        self.dtype = make.dtype
        self.head: GroupedWeight | None = None  # the head's weight, where that is the only copy
        self.weight = make.empty(
            len(self.rows),
            size if stored is None else stored.row_bytes(size),
            dtype=None if stored is None else torch.uint8,
        )

    @property
    def plain(self) -> bool:
        """Whether vectors are this rank's rows of the table, as they are."""
        return self.whole and self.stored is None

    @property
    def num_parameters(self) -> int:
        return len(self.rows) * self.size

    @property
    def region(self) -> tuple[slice, ...]:
        """The region of these rows in the table; () is all."""
        return () if self.whole else (slice(self.rows.start, self.rows.stop),)

    def share(self, head: LinearWeight) -> None:
        """Read rows from the head of the same numbers, if they are stored in blocks, and drop these."""
        if self.stored is not None and isinstance(head, GroupedWeight):
            self.head = head
            self.weight.data = self.weight.data[:0].clone()

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors `[T, size]` of `ids`; zeros for those of other ranks."""
        if self.whole:
            return self._vectors(ids)
        places = ids - self.rows.start
        absent = (places < 0) | (places >= len(self.rows))
        return self._vectors(places.masked_fill(absent, 0)).masked_fill_(absent[:, None], 0)

    def _vectors(self, places: Tensor) -> Tensor:
        if self.stored is None:
            return self.weight.index_select(0, places)  # 6 times as fast as `weight[places]` with many rows
        if self.head is not None:
            return self.head.rows(places).to(self.dtype)
        return self.stored.read(self.weight.index_select(0, places)).to(self.dtype)
