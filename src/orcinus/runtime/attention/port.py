"""What every attention backend does."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch


class Attention(Protocol):
    """Causal attention of each token over its own sequence, grouped-query heads included.

    `q` is `[T, num_heads, head_dim]`, `k` and `v` are `[T, num_kv_heads, head_dim]`; the result has the shape of `q`.
    Keys and values of the batch are written into `kv` first. `window` lets a token see only that many tokens, itself
    included; None = all before it. The batch is an argument: there is no global to set before a call.
    """

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, kv: LayerKV, batch: PackedBatch, scale: float, window: int | None
    ) -> Tensor: ...


def causal_mask(start: int, count: int, window: int | None, device: torch.device) -> Tensor:
    """`[count, start + count]`, True where a token of the chunk may look (SARATHI, figure 5: a mask shifted right)."""
    queries = torch.arange(start, start + count, device=device)[:, None]
    keys = torch.arange(start + count, device=device)[None, :]
    mask = keys <= queries
    return mask if window is None else mask & (keys > queries - window)
