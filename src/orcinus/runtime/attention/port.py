"""The protocol of attention backends, and their shared functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.operators import PLAIN
from orcinus.runtime.pack import PackedBatch

Angles = tuple[Tensor, Tensor]  # cosine and sine, each [T, rotated dimensions of a head / 2]


@dataclass(frozen=True, slots=True)
class Heads:
    """Sizes, scale, window and norm weights of one layer's attention."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float  # factor of the scores
    window: int | None = None  # how many tokens a token sees, itself included; None = all before it
    norms: tuple[Tensor, Tensor, float] | None = None  # RMSNorm of every query and key: their weights [head_dim], and eps
    soft_cap: float | None = None  # c of the scores c · tanh(score / c) (Gemma 2); None = as they are


class Attention(Protocol):
    """Causal attention of each token over its own sequence, grouped-query heads included.

    `qkv` is contiguous `[T, (num_heads + 2 · num_kv_heads) · head_dim]`: queries, keys and values of every token as they were
    projected. Head norms and rotation come first (`angles`, None = no rotation), then the batch's keys and values are
    written into `kv`. The result is `[T, num_heads · head_dim]`, or has `rows` alone; padding rows hold anything. The batch is
    an argument: there is no global to set before a call.
    """

    # Whether sizes alone decide what is launched, so that it can be captured in a CUDA graph:
    captures_decodes: bool  # for a batch without chunks of several tokens
    captures_chunks: bool  # for any batch

    def __call__(
        self, qkv: Tensor, angles: Angles | None, kv: LayerKV, batch: PackedBatch, heads: Heads, rows: Tensor | None = None
    ) -> Tensor: ...


def flat(out: Tensor, rows: Tensor | None) -> Tensor:
    """Attention `[T, num_heads, head_dim]` as it is returned: `[T, num_heads · head_dim]`, or `rows` of it."""
    return out.flatten(1) if rows is None else out.flatten(1).index_select(0, rows)


def split(qkv: Tensor, angles: Angles | None, kv: LayerKV, batch: PackedBatch, heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised and rotated queries, keys and values; stores keys and values.

    Each is `[T, its heads, head_dim]`.
    """
    sizes = [heads.num_heads, heads.num_kv_heads, heads.num_kv_heads]
    q, k, v = torch.split(qkv.view(len(qkv), sum(sizes), heads.head_dim), sizes, dim=1)
    if heads.norms is not None:
        of_q, of_k, eps = heads.norms
        q, k = PLAIN.rms_norm(q, of_q, eps), PLAIN.rms_norm(k, of_k, eps)
    if angles is not None:
        q, k = rotate(q, *angles), rotate(k, *angles)
    kv.write(batch, k, v)
    return q, k, v


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of `x` `[T, heads, head_dim]`, paired as Llama does.

    The pairs are (i, i + rotated / 2) (RoFormer); dimensions beyond the rotated ones pass unchanged.
    """
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def causal_mask(start: int, count: int, window: int | None, device: torch.device) -> Tensor:
    """The causal mask of a chunk, `[count, start + count]`.

    True is visible. It is a mask shifted right (SARATHI, figure 5).
    """
    queries = torch.arange(start, start + count, device=device)[:, None]
    keys = torch.arange(start + count, device=device)[None, :]
    mask = keys <= queries
    return mask if window is None else mask & (keys > queries - window)
