"""A batch on its way into the model: packed, brought to the device, and its missing tokens filled in there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from orcinus.core.batch import Batch, Chunk
from orcinus.core.executor_state import RequestState
from orcinus.runtime.pack import PackedBatch, Packer, Shape
from orcinus.runtime.transfers import Link


@dataclass(frozen=True, slots=True)
class Before:
    """The batch that was launched before, as far as the next one needs it."""

    batch_id: int
    tokens: Tensor  # [S] int64 on the device: what it samples
    places: Mapping[str, int]  # request -> which of them is its

    def place(self, chunk: Chunk) -> int:
        """Where a chunk's token is; -1 for a request that failed there, whose result is never read."""
        assert chunk.follows == self.batch_id, "a batch follows the one that was launched before it"
        return self.places.get(chunk.request_id, -1)


Feed = Callable[[Tensor, Tensor, Tensor], None]  # tokens [D], sources [D], sampled [S]: as kernels.follow


@dataclass(frozen=True, slots=True)
class Ran:
    """A batch that went through the layers."""

    hidden: Tensor  # [T, hidden_size] of all rows, padding included
    sample_rows: Tensor  # rows whose logits are wanted, in the order of the chunks that sample
    firsts: list[int]  # first row of every chunk


class Runner(Protocol):
    """Runs the layers of a model over a batch, and only launches them where a device works by itself."""

    def __call__(self, batch: Batch, shape: Shape, requests: Mapping[str, RequestState], before: Before | None) -> Ran: ...


class Inputs:
    """Writes batches into a device's memory. `feed` is what fills in tokens of the batch before; None: none is ever missing."""

    def __init__(self, link: Link, block_size: int, feed: Feed | None = None) -> None:
        self.link, self.feed, self.packer = link, feed, Packer(block_size)

    def load(
        self,
        batch: Batch,
        shape: Shape,
        requests: Mapping[str, RequestState],
        before: Before | None,
        into: Tensor | None = None,
    ) -> tuple[tuple[PackedBatch, ...], list[int]]:
        """The batch for every group of layers, padded to `shape`, and the first row of every chunk.

        `into` = memory of the device `[shape.words]`.
        """
        words = self.link.empty(shape.words)
        firsts = self.packer.fill(words.numpy(), batch, shape, requests, before.place if before is not None else None)
        packed = PackedBatch.over(self.link.up(words, into), shape)
        if self.feed is not None and before is not None and any(chunk.follows is not None for chunk in batch.chunks):
            self.feed(packed[0].tokens[: shape.decodes], packed[0].sources, before.tokens)
        return packed, firsts
