"""Products of adapters with the rows of their requests.

LoRA (Hu et al., 2021, section 4.1) adds a product of low rank to a linear layer: W x + B A x · scale. One batch holds requests
of several adapters and of none. The packer sorts its rows by adapter, so that those of one adapter are a segment of the batch;
each segment is multiplied with the A and the B of its adapter and added to what W gave for all rows together. This is SGMV,
the segmented gather matrix-vector multiplication of Punica (Chen et al., 2023, section 4).

    rows      d0 d1 │ d2 d3 │ d4 │ c0 c0 c0 │ c1 c1
    adapter    none │  sql  │ de │   none   │  sql        three segments: [2, 4) sql, [4, 5) de, [8, 10) sql
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from orcinus.runtime.linear_weight import LinearWeight


class Segment(NamedTuple):
    """Neighbouring rows of a batch that belong to one adapter."""

    adapter: str
    rows: slice


def segments(rows: Iterable[tuple[str, range]]) -> tuple[Segment, ...]:
    """The segments of requests, given each one's adapter ("" = none) and its rows."""
    found: list[Segment] = []
    for adapter, mine in sorted(rows, key=lambda one: one[1].start):
        last = found[-1] if found else None
        if last is not None and last.adapter == adapter and last.rows.stop == mine.start:
            found[-1] = Segment(adapter, slice(last.rows.start, mine.stop))
        else:
            found.append(Segment(adapter, slice(mine.start, mine.stop)))
    return tuple(segment for segment in found if segment.adapter)


@dataclass(frozen=True, slots=True)
class Up:
    """One B, for some outputs of a layer."""

    ranks: slice  # of A x
    outputs: slice  # of the layer
    weight: LinearWeight  # [outputs, ranks]; the scale is in it


@dataclass(frozen=True, slots=True)
class LowRankUpdate:
    """What one adapter adds to one linear layer.

    A fused layer (query, key, value; gate, up) has a B for each adapted part. Their A's stand one below the other.
    """

    down: LinearWeight  # A: [ranks, inputs]
    ups: tuple[Up, ...]

    def each(self, change: Callable[[LinearWeight], LinearWeight]) -> LowRankUpdate:
        """The same with weights of another form."""
        return LowRankUpdate(change(self.down), tuple(replace(up, weight=change(up.weight)) for up in self.ups))

    def add_to(self, out: Tensor, x: Tensor) -> None:
        """Add B A x to `out` `[rows, outputs]`, for `x` `[rows, inputs]`."""
        low = self.down.multiply(x, None)
        for up in self.ups:
            out[:, up.outputs] += up.weight.multiply(low[:, up.ranks], None)


def add_updates(out: Tensor, x: Tensor, updates: Mapping[str, LowRankUpdate], batch: Sequence[Segment]) -> None:
    """Add to each segment of `out` what its adapter makes of `x`.

    An adapter without an update leaves this layer as it is.
    """
    for adapter, rows in batch:
        update = updates.get(adapter)
        if update is not None:
            update.add_to(out[rows], x[rows])
