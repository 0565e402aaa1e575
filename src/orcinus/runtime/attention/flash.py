"""Attention on a GPU: FlashAttention for chunks, our own kernel for decodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from orcinus.runtime.attention.port import Angles, Heads, flat
from orcinus.runtime.kernels.attention import paged_attention
from orcinus.runtime.kernels.gather_kv import gather_contexts
from orcinus.runtime.kernels.rope_kv import rope_and_write
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch, PagedBatch


@cache
def varlen_attn() -> Callable[..., Any]:
    """torch's kernel, whose module takes seconds to import."""
    from torch.nn.attention import varlen

    return varlen.varlen_attn


class FlashAttention:
    """Decodes read K/V in place; chunks read a contiguous copy.

    Chunks run in one variable-length call of FlashAttention-2 (Dao, 2023), which torch brings along. It takes contexts that lie
    end to end; paged, it would want blocks of 256 tokens. A copy is read and written once for a whole chunk, which is little
    beside what a chunk computes. A captured graph would need a copy of the longest possible contexts, so chunks are not
    captured.
    """

    captures_decodes = True
    captures_chunks = False

    def __init__(self) -> None:
        told = "enable_gqa" in signature(varlen_attn()).parameters  # torch 2.11 accepts grouped heads without a flag
        self._grouped: dict[str, Any] = {"enable_gqa": True} if told else {}

    def __call__(
        self, qkv: Tensor, angles: Angles | None, kv: LayerKV, batch: PackedBatch, heads: Heads, rows: Tensor | None = None
    ) -> Tensor:
        slots, cut = (batch.slot_blocks, batch.slot_offsets), len(batch.sources)
        q = rope_and_write(qkv, angles, slots, kv.keys, kv.values, norms=heads.norms)
        out = torch.empty_like(q)
        paged_attention(q[:cut], kv.keys, kv.values, batch.decodes, heads.scale, heads.window, out=out[:cut])
        if len(batch.chunks.ends):
            out[cut:] = self._chunks(q[cut:], kv, batch.chunks, batch.chunk_context, heads)
        return flat(out, rows)

    def _chunks(self, q: Tensor, kv: LayerKV, batch: PagedBatch, room: int, heads: Heads) -> Tensor:
        """Attention of `q` `[rows, heads, dim]` over contexts of `room` tokens together."""
        before = -1
        if heads.window is not None:
            room, before = (
                min(room, len(q) + len(batch.ends) * (heads.window - 1)),
                heads.window - 1,
            )  # torch's window counts the tokens before a token
        keys, values, firsts = gather_contexts(kv.keys, kv.values, batch, room, heads.window)
        out = varlen_attn()(
            q, keys, values, batch.firsts, firsts, batch.most_rows, batch.most_context,
            scale=heads.scale, window_size=(before, 0), **self._grouped,
        )  # fmt: skip
        assert isinstance(out, Tensor)  # a pair only if log-sum-exps are requested
        return out
