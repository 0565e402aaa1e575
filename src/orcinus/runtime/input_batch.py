"""The input batch: packed, copied to the device, and completed there.

The device fills in tokens that the host does not know yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from orcinus.core.batch import Chunk
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.pack import Layout, PackedBatch, Packer, Shape, adapter_segments
from orcinus.runtime.transfers import Link


@dataclass(frozen=True, slots=True)
class Before:
    """The batch launched before, as far as the next one needs it."""

    batch_id: int
    tokens: Tensor  # [S] int64 on the device: its sampled tokens
    places: Mapping[str, int]  # request -> place of its token

    def place(self, chunk: Chunk) -> int:
        """The place of a chunk's token; -1 if its request failed there.

        The result of such a request is never read.
        """
        assert chunk.follows == self.batch_id, "a batch follows the one that was launched before it"
        return self.places.get(chunk.request_id, -1)


Feed = Callable[[Tensor, Tensor, Tensor], None]  # tokens [D], sources [D], sampled [S]: as kernels.follow


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of the layers for one batch."""

    hidden: Tensor  # [T, hidden_size] of all rows, padding included; or of the sampled ones alone
    sample_rows: Tensor | None  # rows to compute logits for, in the order of the chunks that sample; None: all that are here
    firsts: list[int]  # first row of every chunk

    def sampled(self, count: int) -> Tensor:
        """The first `count` hidden states to compute logits for."""
        return self.hidden[:count] if self.sample_rows is None else self.hidden.index_select(0, self.sample_rows[:count])


class Runner(Protocol):
    """Runs the layers of a model over a batch.

    On a device that works asynchronously, it only launches them.
    """

    def __call__(self, columns: BatchColumns, shape: Shape, before: Before | None) -> Ran: ...


@dataclass(slots=True)
class _Memory:
    """Host memory for batches of one shape."""

    sizes: list[int]  # `Shape.sizes`
    words: Tensor
    arrays: Layout  # to be written
    tensors: Layout | None = None  # to be read on a CPU


class Inputs:
    """Writes batches into a device's memory.

    `feed` fills in tokens of the batch before; None: none is ever missing.
    """

    def __init__(self, link: Link, block_size: int, feed: Feed | None = None) -> None:
        self.link, self.feed, self.packer = link, feed, Packer(block_size)
        self._memory: _Memory | None = None  # of a CPU's last batch, which has read it

    def load(
        self, columns: BatchColumns, shape: Shape, before: Before | None, into: Tensor | None = None
    ) -> tuple[tuple[PackedBatch, ...], list[int]]:
        """The batch for every layer group, and each chunk's first row.

        It is padded to `shape`. `into` = memory of the device `[shape.words]`.
        """
        memory, sizes = self._memory, shape.sizes
        if memory is None or memory.sizes != sizes:
            words = self.link.empty(shape.words)
            memory = _Memory(sizes, words, Layout.over(words.numpy(), shape))
        firsts = self.packer.fill(memory.arrays, columns, shape, before.place if before is not None else None)
        there = memory.tensors if into is None else None
        if there is None:
            there = Layout.to_read(self.link.up(memory.words, into), shape)
            if self.link.is_cpu and into is None:
                memory.tensors, self._memory = there, memory
        packed = PackedBatch.of(there, shape, adapter_segments(columns, firsts))
        if self.feed is not None and before is not None and any(follow is not None for follow in columns.follows):
            self.feed(packed[0].tokens[: shape.decodes], packed[0].sources, before.tokens)
        return packed, firsts
