"""Selective batching, literally (Orca, section 4.1): split the flat batch by request, attend one by one, merge."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from orcinus.runtime.attention.port import causal_mask
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch, PackedChunk


class ReferenceAttention:
    """One scaled-dot-product call per request, on any device. Slow, short, and what every other backend must equal."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, kv: LayerKV, batch: PackedBatch, scale: float, window: int | None
    ) -> Tensor:
        kv.write(batch, k, v)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for chunk in self._chunks(batch):
            out[chunk.rows] = attend(q[chunk.rows], kv, chunk, scale, window)
        return out

    @staticmethod
    def _chunks(batch: PackedBatch) -> list[PackedChunk]:
        decodes = zip(batch.decode_rows.tolist(), batch.decode_tables, batch.decode_lengths.tolist(), strict=True)
        return [*batch.prompts, *(PackedChunk(row, 1, length - 1, table) for row, table, length in decodes)]


def attend(q: Tensor, kv: LayerKV, chunk: PackedChunk, scale: float, window: int | None) -> Tensor:
    """Attention of one chunk, `q` `[count, num_heads, head_dim]`, over a copy of its context."""
    keys, values = kv.context(chunk.blocks, chunk.end)
    mask = causal_mask(chunk.start, chunk.count, window, q.device)
    heads_first = scaled_dot_product_attention(q.transpose(0, 1), keys, values, mask, scale=scale, enable_gqa=True)
    return heads_first.transpose(0, 1)
