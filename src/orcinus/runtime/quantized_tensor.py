"""The numbers of a quantised module on their way into a model, read in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.runtime.quant_methods.layout import Blocks, CodeLayout
from orcinus.runtime.stored_format import StoredFormat
from orcinus.runtime.stored_tensor import put

AT_ONCE = 2**21  # numbers that are read at once


@dataclass(frozen=True, slots=True)
class StoredNumbers:
    """A module's tensors, mapped from their files."""

    layout: CodeLayout
    shape: tuple[int, int]
    tensors: Mapping[str, Tensor]
    blocks: Blocks
    kept: StoredFormat | None  # None: numbers are dequantised

    def read(self, rows: Tensor, columns: range) -> Tensor:
        """Some numbers in float32, or as integers."""
        codes = self.layout.codes(self.tensors, rows, columns)
        if self.kept is None:
            return self.blocks.dequantize(codes, rows, columns)
        return self.kept.integers(self.blocks, codes, rows, columns)


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A tensor that a module's numbers fill."""

    numbers: StoredNumbers
    kind: str  # weight, or one of the others of a `StoredFormat`
    order: Tensor | None = None  # the file's row for each of the decoder's; None = they are in the same order

    def copy_to(self, target: Tensor, region: tuple[slice | int, ...], *, transposed: bool) -> None:
        """Fill `target` with a region of the tensor, in the dtype of the target. Regions are counted in outputs and inputs."""
        del transposed  # the numbers of a module are [outputs, inputs] wherever they lie
        spans = [
            part for part in (*region, slice(None), slice(None)) if isinstance(part, slice)
        ]  # no matrix of stacked experts
        rows, columns = (range(size)[span] for size, span in zip(self.numbers.shape, spans, strict=False))
        kept = self.numbers.kept
        if self.kind != "weight" and kept is not None:
            target.copy_(kept.table(self.kind, self.numbers.blocks, self._rows(rows), columns))
            return
        for piece in _pieces(rows, columns):
            found = self.numbers.read(self._rows(piece), columns)
            put(found, target[piece.start - rows.start : piece.stop - rows.start], transposed=False)

    def _rows(self, rows: range) -> Tensor:
        return torch.arange(rows.start, rows.stop) if self.order is None else self.order[rows.start : rows.stop]


def _pieces(rows: range, columns: range) -> Iterator[range]:
    """The rows in ranges of few numbers."""
    step = max(1, AT_ONCE // max(1, len(columns)))
    for first in range(rows.start, rows.stop, step):
        yield range(first, min(first + step, rows.stop))
