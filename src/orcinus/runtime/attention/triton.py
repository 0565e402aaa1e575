"""Attention on a GPU with one Triton kernel, for decodes and chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from orcinus.runtime.attention.port import Angles, Heads, flat
from orcinus.runtime.kernels.attention import paged_attention
from orcinus.runtime.kernels.rope_kv import rope_and_write
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch


class TritonAttention:
    """One kernel prepares q, k and v; another computes attention.

    It is launched for decodes and for chunks. Launches depend on sizes alone, so a CUDA graph can capture all of them.
    """

    captures_decodes = captures_chunks = True

    def __call__(
        self, qkv: Tensor, angles: Angles | None, kv: LayerKV, batch: PackedBatch, heads: Heads, rows: Tensor | None = None
    ) -> Tensor:
        slots = (batch.slot_blocks, batch.slot_offsets)
        q = rope_and_write(qkv, angles, slots, kv.keys, kv.values, norms=heads.norms)
        out = torch.empty_like(q)
        cut = len(batch.sources)
        for place, part in ((slice(0, cut), batch.decodes), (slice(cut, len(q)), batch.chunks)):
            paged_attention(
                q[place], kv.keys, kv.values, part, heads.scale, heads.window, soft_cap=heads.soft_cap, out=out[place]
            )
        return flat(out, rows)
