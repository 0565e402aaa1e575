"""Attention on a CPU: one kernel for all decodes, another for all chunks of prompts."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.attention.port import Angles, Heads
from orcinus.runtime.cpu_kernels.decode_attention import PIECE, decode_attention
from orcinus.runtime.cpu_kernels.elements import MANY, KVArrays, array
from orcinus.runtime.cpu_kernels.heads import prepare_heads, prepare_many_heads
from orcinus.runtime.cpu_kernels.prompt_attention import prompt_attention
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.numba_threads import share_threads
from orcinus.runtime.pack import PackedBatch

Array: TypeAlias = np.ndarray[Any, Any]
PIECES = 4096  # of sequences in one call of the kernel for rows of prompts, whose memory grows with them


class CpuAttention:
    """Decodes in one Numba kernel, all chunks of prompts in another; both read K/V blocks in place.

    `by_row`: the tokens of prompts, too, are computed as decodes are, so that a token's bits depend on its sequence alone, not
    on whether it was part of a prompt.
    """

    captures_decodes = captures_chunks = False

    def __init__(self, *, by_row: bool = False) -> None:
        self._by_row = by_row
        share_threads()

    def __call__(self, qkv: Tensor, angles: Angles | None, kv: LayerKV, batch: PackedBatch, heads: Heads) -> Tensor:
        decodes = len(batch.sources)
        out = torch.empty((len(qkv), heads.num_heads * heads.head_dim), dtype=qkv.dtype)
        rows, arrays = array(qkv), kv.arrays()
        prepare = prepare_many_heads if qkv.numel() >= MANY else prepare_heads
        blocks, offsets = batch.slot_blocks.numpy(), batch.slot_offsets.numpy()
        prepare(rows, heads.num_heads, *_norms_and_angles(rows, angles, heads), arrays, blocks, offsets)
        if self._by_row and len(rows) > decodes:
            _by_row(rows, arrays, batch, heads, array(out))
            return out
        if decodes:
            tables, lengths = batch.decodes.tables.numpy(), batch.decodes.ends.numpy()
            decode_attention(rows, arrays, tables, lengths, heads.scale, heads.window, array(out), heads.soft_cap)
        if len(qkv) > decodes:
            chunks, these = batch.chunks, array(out)[decodes:]
            firsts, ends, tables = chunks.firsts.numpy(), chunks.ends.numpy(), chunks.tables.numpy()
            prompt_attention(rows[decodes:], arrays, firsts, ends, tables, heads.scale, heads.window, these, heads.soft_cap)
        return out


def _by_row(rows: Array, kv: KVArrays, batch: PackedBatch, heads: Heads, out: Array) -> None:
    """Attention of each row as if it were a decode: over its request's blocks, up to its own position."""
    decodes, counts = len(batch.sources), np.diff(batch.chunks.firsts.numpy())
    owners = np.concatenate((np.arange(decodes), decodes + np.repeat(np.arange(len(counts)), counts)))
    tables = np.concatenate((batch.decodes.tables.numpy(), batch.chunks.tables.numpy()))
    lengths = batch.positions.numpy() + np.int32(1)
    step = max(1, PIECES * PIECE // (tables.shape[1] * kv[0].shape[2]))
    for part in (slice(begin, begin + step) for begin in range(0, len(rows), step)):
        some = rows[part], kv, tables[owners[part]], lengths[part]
        decode_attention(*some, heads.scale, heads.window, out[part], heads.soft_cap)


def _norms_and_angles(rows: np.ndarray[Any, Any], angles: Angles | None, heads: Heads) -> tuple[Any, ...]:
    """What head norms and rotation need; empty arrays where there is none."""
    query, key, eps = heads.norms or (None, None, 0.0)
    weights = [np.empty(0, rows.dtype) if weight is None else array(weight.data) for weight in (query, key)]
    cos, sin = (array(each) for each in angles) if angles is not None else (np.empty((0, 0), rows.dtype),) * 2
    return *weights, np.float32(eps), cos, sin
