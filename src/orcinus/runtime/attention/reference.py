"""Selective batching, literally (Orca, section 4.1): split, attend one by one, merge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from orcinus.runtime.attention.port import Angles, Heads, causal_mask, flat, split
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch, PagedBatch

SCORES = 2**22  # soft-capped scores that are computed at once, for all heads


@dataclass(frozen=True, slots=True)
class Part:
    """One request's rows of the flat batch, and its context."""

    rows: slice
    start: int  # position of its first token
    end: int  # length of its sequence
    blocks: Tensor  # its block table


def parts(batch: PagedBatch, first: int) -> Iterator[Part]:
    """The requests of a batch, as parts.

    `first` is the flat row of the first one.
    """
    firsts = batch.firsts.tolist()
    for begin, after, end, blocks in zip(firsts, firsts[1:], batch.ends.tolist(), batch.tables, strict=False):
        if after > begin:  # else it is padding
            yield Part(slice(first + begin, first + after), end - (after - begin), end, blocks)


class ReferenceAttention:
    """Reference attention: one scaled-dot-product call per request, on any device.

    It is slow and short, and every other backend must equal it.
    """

    captures_decodes = captures_chunks = False

    def __call__(
        self, qkv: Tensor, angles: Angles | None, kv: LayerKV, batch: PackedBatch, heads: Heads, rows: Tensor | None = None
    ) -> Tensor:
        q, _, _ = split(qkv, angles, kv, batch, heads)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for part in (*parts(batch.decodes, 0), *parts(batch.chunks, len(batch.sources))):
            out[part.rows] = attend(q[part.rows], kv, part, heads)
        return flat(out, rows)


def attend(q: Tensor, kv: LayerKV, part: Part, heads: Heads) -> Tensor:
    """Attention of one request over a copy of its context.

    `q` is `[count, num_heads, head_dim]`.
    """
    keys, values = kv.context(part.blocks, part.end)
    mask = causal_mask(part.start, part.end - part.start, heads.window, q.device)
    if heads.soft_cap is not None:
        return capped(q, keys, values, heads.scale, mask, heads.soft_cap)
    return fused(q, keys, values, heads.scale, mask)


def fused(q: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """torch's attention of one request; causal without a mask.

    `q` is `[count, heads, dim]`, keys and values are `[kv_heads, length, dim]`.

    The batch dimension of one is what lets torch take its fused kernel for grouped-query heads, 2 to 4 times faster on a CPU.
    """
    q, keys, values = q.transpose(0, 1)[None], keys[None], values[None]
    causal = mask is None
    return scaled_dot_product_attention(q, keys, values, mask, is_causal=causal, scale=scale, enable_gqa=True)[0].transpose(
        0, 1
    )


def capped(q: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor, cap: float) -> Tensor:
    """`fused` with soft-capped scores (Gemma 2), which torch's fused attention lacks; in float32, as that computes.

    Scores are made for some rows at a time, because those of a long chunk would take much memory.
    """
    kv_heads, length, _ = keys.shape
    group = q.shape[1] // kv_heads
    keys, values = keys.float()[:, None], values.float()[:, None]
    rows, outs = max(1, SCORES // (q.shape[1] * length)), []
    for some, seen in zip(torch.split(q, rows), torch.split(mask, rows), strict=True):
        queries = some.float().reshape(len(some), kv_heads, group, -1).permute(1, 2, 0, 3)  # [kv_heads, group, rows, dim]
        scores = torch.matmul(queries, keys.transpose(2, 3)) * scale
        weights = (cap * torch.tanh(scores / cap)).masked_fill(~seen, float("-inf")).softmax(-1)
        outs.append(torch.matmul(weights, values).permute(2, 0, 1, 3).flatten(1, 2))
    return torch.cat(outs).to(q.dtype)
