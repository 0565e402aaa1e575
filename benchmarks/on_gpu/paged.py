"""Made-up batches over K/V blocks that are scattered over a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.runtime.pack import PagedBatch

BLOCK = 16  # tokens


@dataclass(frozen=True, slots=True)
class Paged:
    """Queries and a pool of keys and values, and which of them belong together."""

    q: Tensor  # [T, heads, dim]
    keys: Tensor  # [num_blocks, kv_heads, BLOCK, dim]
    values: Tensor
    batch: PagedBatch

    @property
    def scale(self) -> float:
        return float(self.q.shape[2] ** -0.5)


def pool(num_blocks: int, kv_heads: int, dim: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random keys and values."""
    shape = (num_blocks, kv_heads, BLOCK, dim)
    keys, values = (torch.empty(shape, dtype=dtype, device=device).normal_() for _ in range(2))
    return keys, values


def ragged(
    chunks: Sequence[tuple[int, int]], kv_heads: int, group: int, dim: int, dtype: torch.dtype, device: torch.device
) -> Paged:
    """Requests of (tokens before, tokens now); (0, 0) is padding. Blocks without an owner hold NaN."""
    needed = [-(-(start + count) // BLOCK) for start, count in chunks]
    keys, values = pool(sum(needed) + 3, kv_heads, dim, dtype, device)
    order = torch.randperm(len(keys)).tolist()
    tables = torch.full((len(chunks), max(needed)), order[-1], dtype=torch.int32)
    for row, count in enumerate(needed):
        tables[row, :count] = torch.tensor([order.pop(0) for _ in range(count)], dtype=torch.int32)
    for unowned in order:
        keys[unowned] = values[unowned] = torch.nan
    counts = torch.tensor([0, *(count for _, count in chunks)])
    ends = torch.tensor([start + count for start, count in chunks], dtype=torch.int32)
    batch = PagedBatch(
        counts.cumsum(0).int().to(device), ends.to(device), tables.to(device), int(counts.max()), int(ends.max())
    )
    q = torch.empty((int(counts.sum()), kv_heads * group, dim), dtype=dtype, device=device).normal_()
    return Paged(q, keys, values, batch)


def alike(requests: int, context: int, rows: int, count: int, device: torch.device) -> list[PagedBatch]:
    """Batches of equal requests with nothing in common.

    The last `rows` of `context` tokens are the queries.
    """
    blocks = -(-context // BLOCK)
    tables = torch.randperm(count * requests * blocks, device=device).int().view(count, requests, blocks)
    firsts = torch.arange(requests + 1, dtype=torch.int32, device=device) * rows
    ends = torch.full((requests,), context, dtype=torch.int32, device=device)
    return [PagedBatch(firsts, ends, tables[each], rows, context) for each in range(count)]
