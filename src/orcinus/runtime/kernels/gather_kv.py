"""Gathers the contexts of a batch for attention without block tables.

request 0      request 1   request 2 (padding)         tables = [7 3] [4 9]
└ 7 ┘└ 3 ┘     └ 4 ┘└ 9 ┘                              a program: a few rows of the copy, one kv head
│ copy 0 1 2 3 4 5 │ 6 7 8 9 10 │                      firsts = 0 6 11 11
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orcinus.runtime.kernels.launch_configs import padded
from orcinus.runtime.pack import PagedBatch

ROWS = 32  # rows of a program: 8 KiB of keys with heads of 128 in bfloat16


def gather_contexts(
    keys: Tensor, values: Tensor, batch: PagedBatch, num_rows: int, window: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The contexts of a batch, end to end: keys, values, boundaries.

    Keys and values are each `[num_rows, kv_heads, dim]`; boundaries are `[R + 1]` int32, the beginning of each context in these
    and the end of the last one.

    `keys` and `values` are `[num_blocks, kv_heads, block_size, dim]`, each block contiguous. A context ends with the request's
    own tokens; with a `window` it begins with the first token that any of these can see. `num_rows` must be large enough for
    all contexts; rows left over are not written.
    """
    (_, kv_heads, block_size, dim), requests = keys.shape, len(batch.ends)
    k, v = (torch.empty((num_rows, kv_heads, dim), dtype=keys.dtype, device=keys.device) for _ in range(2))
    firsts = torch.empty(requests + 1, dtype=torch.int32, device=keys.device)
    _gather_contexts[(max(1, triton.cdiv(num_rows, ROWS)), kv_heads)](
        keys, values, k, v, firsts, batch.firsts, batch.ends, batch.tables,
        num_rows, requests, keys.stride(0), values.stride(0), batch.tables.stride(0),
        requests_padded=padded(requests), kv_heads=kv_heads, dim=dim, dim_padded=padded(dim), block_size=block_size,
        window=window or 0, rows_at_once=ROWS, num_warps=4,
    )  # fmt: skip
    return k, v, firsts


@triton.jit(do_not_specialize=["num_rows", "requests", "table_stride"])  # they change from batch to batch
def _gather_contexts(
    keys, values, k, v, context_firsts, firsts, ends, tables,
    num_rows, requests, key_stride, value_stride, table_stride,
    requests_padded: tl.constexpr, kv_heads: tl.constexpr, dim: tl.constexpr, dim_padded: tl.constexpr,
    block_size: tl.constexpr, window: tl.constexpr, rows_at_once: tl.constexpr,
):  # fmt: skip
    # Every program adds up all lengths itself: a few hundred numbers, which all programs share in the cache.
    request = tl.arange(0, requests_padded)
    real = request < requests
    count = tl.load(firsts + request + 1, mask=real, other=0) - tl.load(firsts + request, mask=real, other=0)
    end = tl.load(ends + request, mask=real & (count > 0), other=0)  # padding may name any block
    length = end
    if window > 0:
        length = tl.minimum(end, count + window - 1)
    after = tl.cumsum(length, 0)
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
        tl.store(context_firsts, 0)
        tl.store(context_firsts + request + 1, after, mask=real)

    row = tl.program_id(0) * rows_at_once + tl.arange(0, rows_at_once)
    earlier = real[None, :] & (after[None, :] <= row[:, None])  # [rows, requests]: contexts that end before the row
    owner = tl.sum(earlier.to(tl.int32), 1)
    inside = (owner < requests) & (row < num_rows)
    own = request[None, :] == owner[:, None]
    position = row + tl.sum(tl.where(own, (end - after)[None, :], 0), 1)  # the ends tell which context a row belongs to
    block = tl.load(tables + owner.to(tl.int64) * table_stride + position // block_size, mask=inside, other=0).to(tl.int64)
    offset = (tl.program_id(1) * block_size + position % block_size) * dim
    dims = tl.arange(0, dim_padded)
    there = inside[:, None] & (dims < dim)[None, :]
    at = ((row.to(tl.int64) * kv_heads + tl.program_id(1)) * dim)[:, None] + dims[None, :]
    tl.store(k + at, tl.load(keys + (block * key_stride + offset)[:, None] + dims[None, :], mask=there), mask=there)
    tl.store(v + at, tl.load(values + (block * value_stride + offset)[:, None] + dims[None, :], mask=there), mask=there)
