"""A batch as tensors: the tokens of all requests, prefill and decode alike, in one flat row (Orca, selective batching)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orcinus.core.batch import Batch


@dataclass(frozen=True, slots=True)
class PackedChunk:
    """Where one request's tokens are in the flat batch, and what they attend to."""

    first: int  # row of its first token
    count: int  # rows
    start: int  # position of the first token in its sequence
    blocks: Tensor  # block table [blocks of the sequence], int64

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + self.count)

    @property
    def end(self) -> int:
        """Length of the sequence after this chunk."""
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One iteration's input. T tokens of all chunks stand one after another; D chunks have a single token."""

    tokens: Tensor  # [T] token ids
    positions: Tensor  # [T] position of each token in its own sequence
    slot_blocks: Tensor  # [T] block that receives the token's key and value
    slot_offsets: Tensor  # [T] place inside that block
    sample_rows: Tensor  # rows whose logits are wanted, in the order of the chunks that sample
    prompts: tuple[PackedChunk, ...]  # chunks of several tokens
    decode_rows: Tensor  # [D] rows of the chunks of one token
    decode_tables: Tensor  # [D, most blocks] their block tables, padded with 0
    decode_lengths: Tensor  # [D] their sequence lengths, the token itself included


def pack(batch: Batch, block_size: int, device: torch.device) -> PackedBatch:
    """Flatten a batch. All tensors are int64 on `device` but the decode tables, which are int32."""
    counts = [len(chunk.tokens) for chunk in batch.chunks]
    firsts = np.cumsum([0, *counts])
    tokens = np.fromiter((token for chunk in batch.chunks for token in chunk.tokens), np.int64, count=firsts[-1])
    positions = np.concatenate([np.arange(chunk.start, chunk.end) for chunk in batch.chunks])
    tables = [np.asarray(chunk.blocks, np.int64) for chunk in batch.chunks]
    slots = np.concatenate(
        [table[np.arange(chunk.start, chunk.end) // block_size] for chunk, table in zip(batch.chunks, tables, strict=True)]
    )

    def to(array: object, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.as_tensor(np.asarray(array), dtype=dtype).to(device)

    prompts = [
        PackedChunk(int(firsts[i]), counts[i], chunk.start, to(tables[i]))
        for i, chunk in enumerate(batch.chunks)
        if counts[i] > 1
    ]
    decodes = [i for i, count in enumerate(counts) if count == 1]
    return PackedBatch(
        tokens=to(tokens),
        positions=to(positions),
        slot_blocks=to(slots),
        slot_offsets=to(positions % block_size),
        sample_rows=to([firsts[i + 1] - 1 for i, chunk in enumerate(batch.chunks) if chunk.samples]),
        prompts=tuple(prompts),
        decode_rows=to([firsts[i] for i in decodes]),
        decode_tables=to(_padded([tables[i] for i in decodes]), torch.int32),
        decode_lengths=to([batch.chunks[i].end for i in decodes]),
    )


def _padded(tables: list[np.ndarray]) -> np.ndarray:
    padded = np.zeros((len(tables), max(map(len, tables), default=0)), np.int32)
    for row, table in zip(padded, tables, strict=True):
        row[: len(table)] = table
    return padded
