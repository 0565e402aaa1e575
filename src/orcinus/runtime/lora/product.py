"""Products of adapters with the rows of their requests.

LoRA (Hu et al., 2021, section 4.1) adds a product of low rank to a linear layer: W x + B A x · scale. One batch holds requests
of several adapters and of none. The packer sorts its rows by adapter, so that those of one adapter are a segment of the batch;
each segment is multiplied with the A and the B of its adapter and added to what W gave for all rows together. This is SGMV,
the segmented gather matrix-vector multiplication of Punica (Chen et al., 2023, section 4).

    rows      d0 d1 │ d2 d3 │ d4 │ c0 c0 c0 │ c1 c1
    adapter    none │  sql  │ de │   none   │  sql        three segments: [2, 4) sql, [4, 5) de, [8, 10) sql
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor
from torch.nn import functional as F


class Segment(NamedTuple):
    """Neighbouring rows of a batch that belong to one adapter."""

    adapter: str
    first: int
    end: int


def segments(rows: Iterable[tuple[str, range]]) -> tuple[Segment, ...]:
    """The segments of requests, given each one's adapter ("" = none) and its rows."""
    found: list[Segment] = []
    for adapter, mine in sorted(rows, key=lambda one: one[1].start):
        if found and (found[-1].adapter, found[-1].end) == (adapter, mine.start):
            found[-1] = found[-1]._replace(end=mine.stop)
        else:
            found.append(Segment(adapter, mine.start, mine.stop))
    return tuple(segment for segment in found if segment.adapter)


class LowRank(NamedTuple):
    """What an adapter adds to one part of a linear layer: query, key or value; gate or up; or all of it."""

    a: Tensor  # [rank, inputs]
    b: Tensor  # [part's outputs, rank]; the scale is in it
    outputs: slice  # of the layer


class Updates(Protocol):
    """What all adapters add to one linear layer."""

    def add_to(self, out: Tensor, x: Tensor, batch: Sequence[Segment]) -> None:
        """Add to each segment of `out` `[rows, outputs]` what its adapter makes of `x` `[rows, inputs]`.

        An adapter without an update leaves the layer as it is.
        """
        ...


class PlainUpdates:
    """Updates as torch multiplies them, segment by segment."""

    def __init__(self, adapters: Mapping[str, Sequence[LowRank]]) -> None:
        self.adapters = adapters

    def add_to(self, out: Tensor, x: Tensor, batch: Sequence[Segment]) -> None:
        for adapter, first, end in batch:
            for update in self.adapters.get(adapter, ()):
                out[first:end, update.outputs] += F.linear(F.linear(x[first:end], update.a), update.b)
