"""A batch as tensors, for every group of layers, with rows for drafts."""

from __future__ import annotations

import numpy as np
import torch

from orcinus.core.batch import Batch, Chunk, NewRequest
from orcinus.core.executor_state import RequestStates
from orcinus.core.request import NO_CONTEXT
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.input_batch import Inputs
from orcinus.runtime.pack import Layout, PackedBatch, Packer, pack, shape_of
from orcinus.runtime.transfers import Link

PARAMS = SamplingParams(max_tokens=9, seed=0)
NONE = ((), ())  # no new blocks in either group


def two_groups() -> tuple[Batch, RequestStates]:
    """A decode and a chunk of three tokens, each with one block table for every group of layers."""
    new = (
        NewRequest("d", (1,) * 5, (), PARAMS, NO_CONTEXT, ((3, 9), (10, 11))),
        NewRequest("c", (1,) * 7, (), PARAMS, NO_CONTEXT, ((1, 2), (5, 6))),
    )
    batch, states = Batch(1, (Chunk("d", (7,), 4, NONE), Chunk("c", (8, 9, 10), 4, NONE)), new), RequestStates()
    states.apply(batch)
    return batch, states


def test_groups_of_layers_share_all_but_the_block_tables() -> None:
    first, second = pack(*two_groups(), 4)
    assert first.tokens.tolist() == second.tokens.tolist() == [7, 8, 9, 10]
    assert first.slot_offsets.tolist() == second.slot_offsets.tolist() == [0, 0, 1, 2]
    assert (first.slot_blocks.tolist(), second.slot_blocks.tolist()) == ([9, 2, 2, 2], [11, 6, 6, 6])
    assert (first.decodes.tables.tolist(), second.decodes.tables.tolist()) == ([[3, 9]], [[10, 11]])
    assert (first.chunks.tables.tolist(), second.chunks.tables.tolist()) == ([[1, 2]], [[5, 6]])


def test_padding_leads_nowhere_in_every_group() -> None:
    batch, states = two_groups()
    columns = BatchColumns.of(batch, states)
    shape = shape_of(columns)
    wide = type(shape)(**{name: getattr(shape, name) + (name in ("decodes", "chunk_rows")) for name in shape.__slots__})
    words = torch.full((wide.words,), -7, dtype=torch.int32)
    Packer(4).fill(Layout.over(words.numpy(), wide), columns, wide)
    for packed, last in zip(PackedBatch.over(words, wide), ([9, -1, 2, 2, 2, -1], [11, -1, 6, 6, 6, -1]), strict=True):
        assert packed.slot_blocks.tolist() == last


def test_a_chunk_with_drafts_has_a_row_behind_each_of_them() -> None:
    batch, states = two_groups()
    drafted = Batch(2, (batch.chunks[0], batch.chunks[1]._replace(drafts=2)))
    packed = pack(drafted, states, 4)[0]
    assert packed.sample_rows.tolist() == [0, 1, 2, 3]


def test_a_table_that_grows_in_place_is_seen() -> None:
    """The packer keeps tables as arrays; the same request with one block more is another table."""
    batch, states = two_groups()
    packer = Packer(4)

    def tables(of: Batch) -> list[list[int]]:
        columns = BatchColumns.of(of, states)
        shape = shape_of(columns)
        words = np.empty(shape.words, np.int32)
        packer.fill(Layout.over(words, shape), columns, shape)
        return PackedBatch.over(torch.from_numpy(words), shape)[0].decodes.tables.tolist()

    assert tables(batch) == [[3, 9]]
    later = Batch(2, (Chunk("d", (7,), 8, ((4,), (12,))),))
    states.apply(later)
    assert tables(later) == [[3, 9, 4]]
    again = Batch(
        3, (Chunk("d", (7,), 0, NONE),), (NewRequest("d", (1,), (), PARAMS, NO_CONTEXT, ((5, 6, 8), (7, 7, 7))),), ("d",)
    )
    states.apply(again)
    assert tables(again) == [[5, 6, 8]], "another request of the same name"


def test_memory_that_is_kept_holds_nothing_of_earlier_batches() -> None:
    batch, states = two_groups()
    inputs = Inputs(Link(torch.device("cpu")), 4)
    decodes = Batch(2, (Chunk("d", (7,), 4, NONE), Chunk("c", (8,), 6, NONE)))
    other = Batch(3, (Chunk("c", (3,), 7, NONE), Chunk("d", (5,), 3, NONE)))
    for each in (batch, decodes, other, decodes, batch):
        columns = BatchColumns.of(each, states)
        loaded, _ = inputs.load(columns, shape_of(columns), None)
        for group, fresh in zip(loaded, pack(each, states, 4), strict=True):
            for name in ("tokens", "positions", "slot_blocks", "slot_offsets", "sources", "sample_rows"):
                assert getattr(group, name).equal(getattr(fresh, name))
            for mine, theirs in ((group.decodes, fresh.decodes), (group.chunks, fresh.chunks)):
                for name in ("firsts", "ends", "tables"):
                    assert getattr(mine, name).equal(getattr(theirs, name))
