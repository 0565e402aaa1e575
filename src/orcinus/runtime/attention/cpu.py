"""Attention on a CPU: one kernel for all decodes, another for all chunks of prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.attention.port import Angles, Heads
from orcinus.runtime.cpu_kernels.decode_attention import decode_attention
from orcinus.runtime.cpu_kernels.elements import MANY, KVArrays, array
from orcinus.runtime.cpu_kernels.heads import prepare_heads, prepare_many_heads
from orcinus.runtime.cpu_kernels.prompt_attention import prompt_attention
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.numba_threads import share_threads
from orcinus.runtime.pack import PackedBatch, PagedBatch


class CpuAttention:
    """Decodes in one Numba kernel, all chunks of prompts in another; both read K/V blocks in place.

    A token's bits depend on its sequence alone: both kernels add in one order (`online_softmax`).
    """

    captures_decodes = captures_chunks = False

    def __init__(self) -> None:
        share_threads()

    def __call__(
        self, qkv: Tensor, angles: Angles | None, kv: LayerKV, batch: PackedBatch, heads: Heads, rows: Tensor | None = None
    ) -> Tensor:
        projected, arrays = array(qkv), kv.arrays()
        prepare = prepare_many_heads if qkv.numel() >= MANY else prepare_heads
        blocks, offsets = batch.slot_blocks.numpy(), batch.slot_offsets.numpy()
        prepare(projected, heads.num_heads, *_norms_and_angles(projected, angles, heads), arrays, blocks, offsets)
        if rows is not None:  # few: as decodes, whose bits are the same
            qkv = qkv.index_select(0, rows)
            return _attend(qkv, arrays, batch.rows_as_decodes(rows), None, heads)
        return _attend(qkv, arrays, batch.decodes, batch.chunks if len(qkv) > len(batch.sources) else None, heads)


def _attend(qkv: Tensor, kv: KVArrays, decodes: PagedBatch, chunks: PagedBatch | None, heads: Heads) -> Tensor:
    """Attention `[T, num_heads · head_dim]` of decodes, and of chunks behind them."""
    out = torch.empty((len(qkv), heads.num_heads * heads.head_dim), dtype=qkv.dtype)
    rows, those, cut = array(qkv), array(out), len(decodes.ends)
    if cut:
        tables, lengths = decodes.tables.numpy(), decodes.ends.numpy()
        decode_attention(rows, kv, tables, lengths, heads.scale, heads.window, those, heads.soft_cap)
    if chunks is not None:
        firsts, ends, tables = chunks.firsts.numpy(), chunks.ends.numpy(), chunks.tables.numpy()
        prompt_attention(rows[cut:], kv, firsts, ends, tables, heads.scale, heads.window, those[cut:], heads.soft_cap)
    return out


def _norms_and_angles(rows: np.ndarray[Any, Any], angles: Angles | None, heads: Heads) -> tuple[Any, ...]:
    """What head norms and rotation need; empty arrays where there is none."""
    query, key, eps = heads.norms or (None, None, 0.0)
    weights = [np.empty(0, rows.dtype) if weight is None else array(weight.data) for weight in (query, key)]
    cos, sin = (array(each) for each in angles) if angles is not None else (np.empty((0, 0), rows.dtype),) * 2
    return *weights, np.float32(eps), cos, sin
