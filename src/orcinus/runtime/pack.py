"""A batch as tensors: all requests' tokens in one flat row.

It mixes prefill and decode (Orca, selective batching).

    rows     d0 d1 d1 d2 … padding | c0 c0 c0 c0 | c1 c1 c1 | padding        decodes with their drafts, then chunks
    words    tokens | positions | slots | … | block tables                  all of it whole numbers, in one piece of memory

Decodes stand first because attention launches them in another way than chunks; a draft is one more decode of its request. Both
are sorted by the adapters of their requests, so that the rows of one adapter are neighbours. One piece of memory is one copy
to a device; padding is for a captured graph, whose shapes are larger than its batch.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orcinus.core.batch import Batch, Chunk
from orcinus.core.executor_state import RequestState
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.cpu_kernels.batch_rows import write_rows
from orcinus.runtime.lora.product import Segment, segments

Words = NDArray[np.int32]
Tables: TypeAlias = "tuple[array[int], ...]"  # block tables of a request, one per group of layers


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """The rows and contexts of R requests.

    Rows are counted from `firsts[0]`, so a slice of the requests fits the slice of their rows. A request without rows
    (`firsts[r] == firsts[r + 1]`) is padding: kernels skip it.
    """

    firsts: Tensor  # [R + 1] int32: row of each request's first token, then the end of the last request's rows
    ends: Tensor  # [R] int32: sequence length after this chunk, in tokens
    tables: Tensor  # [R, most blocks] int32: block tables; entries beyond a table's end are never read
    most_rows: int  # no request has more rows than this: 1 if all are decodes
    most_context: int  # no sequence is longer than this, in tokens


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a packed batch, padding included."""

    decodes: int  # requests of one known token, a row each and one for each draft
    chunks: int  # requests of several known tokens
    chunk_rows: int  # rows of all chunks together
    most_rows: int  # of one chunk
    samples: int  # rows to compute logits for
    groups: int  # groups of layers, each with its own block tables
    blocks: int  # of the longest block table
    most_context: int  # tokens of the longest sequence
    chunk_context: int  # tokens of all sequences that have chunks, together

    @property
    def rows(self) -> int:
        return self.decodes + self.chunk_rows

    @property
    def words(self) -> int:
        """The number of integers that describe the batch."""
        return _begins(self.sizes)[-1]

    @property
    def sizes(self) -> list[int]:
        """Numbers in each part of `Layout`."""
        decodes = [self.decodes + 1, self.decodes, self.groups * self.decodes * self.blocks]
        chunks = [self.chunks + 1, self.chunks, self.groups * self.chunks * self.blocks]
        rows = [self.rows, self.rows, self.groups * self.rows, self.rows]
        return [*rows, self.decodes, self.samples, *decodes, *chunks]

    def holds(self, other: Shape) -> bool:
        """Whether another batch could be padded to this shape."""
        return all(getattr(self, name) >= getattr(other, name) for name in self.__slots__)


def shape_of(columns: BatchColumns) -> Shape:
    """The smallest shape that holds a batch."""
    counts, ends = columns.counts, columns.ends
    longer = list(itertools.compress(counts, columns.long))
    return Shape(
        decodes=sum(counts) - sum(longer),
        chunks=len(longer),
        chunk_rows=sum(longer),
        most_rows=max(longer, default=0),
        samples=sum([drafts + 1 for drafts in columns.drafts if drafts is not None]),
        groups=len(columns.requests[0].blocks) if counts else 1,
        blocks=max([len(table) for request in columns.requests for table in request.blocks], default=0),
        most_context=max(ends, default=0),
        chunk_context=sum(itertools.compress(ends, columns.long)),
    )


def _begins(sizes: Sequence[int]) -> list[int]:
    """Begins of parts of these sizes, and the end.

    Each part begins at whole 16 bytes, as kernels are compiled for.
    """
    return list(itertools.accumulate((-(-size // 4) * 4 for size in sizes), initial=0))


class Layout(NamedTuple):
    """The parts of `Shape.words` numbers, as views.

    They are numpy's when filled, torch's when read.
    """

    tokens: Any  # [rows]
    positions: Any  # [rows]
    slot_blocks: Any  # [groups, rows]
    slot_offsets: Any  # [rows]
    sources: Any  # [decodes]
    sample_rows: Any  # [samples]
    decode_firsts: Any  # [decodes + 1]
    decode_ends: Any  # [decodes]
    decode_tables: Any  # [groups, decodes, blocks]
    chunk_firsts: Any  # [chunks + 1]
    chunk_ends: Any  # [chunks]
    chunk_tables: Any  # [groups, chunks, blocks]

    @classmethod
    def over(cls, words: Any, shape: Shape) -> Layout:
        """Views of `words` `[shape.words]`, an array or a tensor of int32."""
        sizes = shape.sizes
        parts: list[Any] = [words[begin : begin + size] for begin, size in zip(_begins(sizes), sizes, strict=False)]
        parts[2] = parts[2].reshape(shape.groups, shape.rows)
        parts[8] = parts[8].reshape(shape.groups, shape.decodes, shape.blocks)
        parts[11] = parts[11].reshape(shape.groups, shape.chunks, shape.blocks)
        return cls(*parts)

    @classmethod
    def to_read(cls, words: Tensor, shape: Shape) -> Layout:
        """The same of a tensor, with a tensor for each group."""
        at = cls.over(words, shape)
        tables = at.decode_tables.unbind(), at.chunk_tables.unbind()
        return at._replace(slot_blocks=at.slot_blocks.unbind(), decode_tables=tables[0], chunk_tables=tables[1])


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One iteration's input for a group of layers, in int32 tensors.

    It has T rows; the first D are decodes. All tensors are on one device.
    """

    tokens: Tensor  # [T] token ids
    positions: Tensor  # [T] position of each token in its own sequence
    slot_blocks: Tensor  # [T] block that receives the token's key and value; negative = padding
    slot_offsets: Tensor  # [T] place inside that block
    sources: Tensor  # [D] place on the device of a token that follows another batch; -1 = it is in `tokens`
    sample_rows: Tensor  # rows to compute logits for, in the order of the chunks that sample
    decodes: PagedBatch  # the requests of rows [0, D)
    chunks: PagedBatch  # the requests of rows [D, T), counted from D
    chunk_context: int  # tokens of all sequences of chunks together, or more
    adapters: tuple[Segment, ...] = ()  # rows that belong to LoRA adapters

    @classmethod
    def over(cls, words: Tensor, shape: Shape) -> tuple[PackedBatch, ...]:
        """`of` the numbers in `words`."""
        return cls.of(Layout.to_read(words, shape), shape)

    @classmethod
    def of(cls, at: Layout, shape: Shape, adapters: tuple[Segment, ...] = ()) -> tuple[PackedBatch, ...]:
        """The numbers that `fill` wrote, for every layer group.

        The groups differ in block tables and share the rest.
        """
        return tuple(cls._group(at, shape, group, adapters) for group in range(shape.groups))

    @classmethod
    def _group(cls, at: Layout, shape: Shape, group: int, adapters: tuple[Segment, ...]) -> PackedBatch:
        decodes = PagedBatch(at.decode_firsts, at.decode_ends, at.decode_tables[group], 1, shape.most_context)
        chunks = PagedBatch(at.chunk_firsts, at.chunk_ends, at.chunk_tables[group], shape.most_rows, shape.most_context)
        rows = at.tokens, at.positions, at.slot_blocks[group], at.slot_offsets, at.sources, at.sample_rows
        return cls(*rows, decodes, chunks, shape.chunk_context, adapters)

    def rows_as_decodes(self, rows: Tensor) -> PagedBatch:
        """Some rows, each as a decode of its own: it sees its sequence up to itself."""
        cut = len(self.sources)
        chunk = torch.searchsorted(self.chunks.firsts, rows - cut, right=True) - 1
        tables = torch.cat((self.decodes.tables, self.chunks.tables))
        owners = torch.where(rows < cut, rows, cut + chunk)
        ends = self.positions.index_select(0, rows) + 1
        firsts = torch.arange(len(rows) + 1, dtype=torch.int32, device=rows.device)
        return PagedBatch(firsts, ends, tables.index_select(0, owners), 1, self.decodes.most_context)


class _Row(NamedTuple):
    """The row of a request's block tables in `_TableRows`."""

    row: int
    tables: Tables  # the same object as long as the request is in memory
    written: list[int]  # per group: blocks


class _TableRows:
    """Block tables as rows of one array.

    A batch gathers its tables at once. Only new blocks are written.
    """

    def __init__(self) -> None:
        self.array: Words = np.zeros((1, 0, 0), np.int32)  # [groups, rows, blocks]
        self._rows: dict[str, _Row] = {}
        self._free: list[int] = []

    def rows(self, columns: BatchColumns) -> list[int]:
        """The up-to-date row of each chunk's request."""
        found = []
        for request_id, request in zip(columns.ids, columns.requests, strict=True):
            tables, known = request.blocks, self._rows.get(request_id)
            if known is None or known.tables is not tables:
                row = self._free_row(columns.states, len(tables)) if known is None else known.row
                known = self._rows[request_id] = _Row(row, tables, [0] * len(tables))
            lengths = [*map(len, tables)]
            if known.written != lengths:
                self._write(known, lengths)
            found.append(known.row)
        return found

    def _free_row(self, states: Mapping[str, RequestState], groups: int) -> int:
        """A row of a finished request, or a new one."""
        if not self._free:
            self._free = [self._rows.pop(request_id).row for request_id in self._rows.keys() - states.keys()]
        if not self._free:
            taken = self.array.shape[1]
            self._resize(groups, max(8, 2 * taken), self.array.shape[2])
            self._free = list(range(taken, self.array.shape[1]))
        return self._free.pop()

    def _write(self, known: _Row, lengths: list[int]) -> None:
        if max(lengths) > self.array.shape[2]:
            self._resize(len(self.array), self.array.shape[1], max(*lengths, 2 * self.array.shape[2]))
        for group, (table, begin, end) in enumerate(zip(known.tables, known.written, lengths, strict=True)):
            self.array[group, known.row, begin:end] = table[begin:]
        known.written[:] = lengths

    def _resize(self, groups: int, rows: int, blocks: int) -> None:
        before = self.array
        self.array = np.zeros((groups, rows, blocks), np.int32)
        self.array[: before.shape[0], : before.shape[1], : before.shape[2]] = before


class Packer:
    """Writes batches as numbers; caches block tables as arrays.

    Most tables come again unchanged.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._tables = _TableRows()

    def fill(self, at: Layout, columns: BatchColumns, shape: Shape, source: Callable[[Chunk], int] | None = None) -> list[int]:
        """Write a batch into the arrays of `at`; return the first row of every chunk.

        The first rows are in the order of the batch. `source` gives the place of the token of a chunk that follows another
        batch. The keys of all rows are written before any row attends to them, so each draft is one more decode.
        """
        tables, long = self._tables.rows(columns), columns.long
        order: Sequence[int] = range(len(long))
        if columns.adapted:
            order = sorted(order, key=lambda number: columns.requests[number].adapter)
        decodes = len(long) - sum(long)
        if 0 < decodes < len(long):
            order = sorted(order, key=long.__getitem__)  # stable
        drafts = [-1 if drafts is None else drafts for drafts in columns.drafts]
        chunks = np.array((columns.starts, columns.counts, drafts, tables, order), np.int32)
        ids = np.array([*itertools.chain.from_iterable(columns.tokens)], np.int32)
        firsts: list[int] = write_rows(chunks, decodes, ids, self._tables.array, self.block_size, (*at,)).tolist()
        if any(follow is not None for follow in columns.follows):
            assert source is not None, "a chunk follows a batch, and it is unknown where its token is"
            for first, chunk in zip(firsts, columns.chunks, strict=True):
                if chunk.follows is not None:
                    at.sources[first] = source(chunk)
        return firsts


def adapter_segments(columns: BatchColumns, firsts: Sequence[int]) -> tuple[Segment, ...]:
    """The rows of each adapter, given the first row of every chunk."""
    if not columns.adapted:  # the usual case
        return ()
    rows = [range(first, first + count) for first, count in zip(firsts, columns.counts, strict=True)]
    return segments((request.adapter, mine) for request, mine in zip(columns.requests, rows, strict=True))


def pack(batch: Batch, requests: Mapping[str, RequestState], block_size: int) -> tuple[PackedBatch, ...]:
    """A batch on the CPU, for every group of layers.

    It has the smallest shape that holds it.
    """
    columns = BatchColumns.of(batch, requests)
    shape = shape_of(columns)
    words = torch.empty(shape.words, dtype=torch.int32)
    firsts = Packer(block_size).fill(Layout.over(words.numpy(), shape), columns, shape)
    return PackedBatch.of(Layout.to_read(words, shape), shape, adapter_segments(columns, firsts))
