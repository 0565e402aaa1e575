"""Paged attention for a flat batch: one kernel, online softmax.

It takes chunks and decodes.

    rows     r0 r0 r0 r0 r0 | r1 | r2 r2 r2 | padding         firsts = 0 5 6 9
    pieces   └──0───┘ └─1─┘  └2┘   └──3───┘                   at most 3 tokens each here
    program  one piece × one kv head × one share of the context

A piece is a few tokens of one request. Its tile of rows is tokens × the query heads that share a kv head, so that keys
and values are read once for all of them. The grid is laid out for the most pieces that any division of the rows among
the requests could have, and every program searches for its own piece: the grid depends on shapes alone.

Sources: paged K/V blocks (Kwon et al., SOSP 2023, section 4.1), online softmax as in FlashAttention-2 (Dao, 2023, section
3.1), packing grouped heads into the rows of a tile and shares of a context from flash-decoding (Dao et al., 2023).
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.kernels.launch_configs import LaunchConfig, ShapeClass, choose, padded
from orcinus.runtime.kernels.split_kv import LEAST_SHARE, Partials, choose_shares, merge
from orcinus.runtime.pack import PagedBatch

LOG2_E = 1.4426950408889634


def paged_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    batch: PagedBatch,
    scale: float,
    window: int | None = None,
    *,
    soft_cap: float | None = None,
    out: Tensor | None = None,
    launch: LaunchConfig | None = None,
    shares: int | None = None,
    partials: Partials | None = None,
) -> Tensor:
    """softmax(q · keysᵀ · scale) · values for every token.

    The result is contiguous and shaped like `q`. `q` is `[T, heads, dim]`, the heads of a row contiguous; `keys` and `values`
    are `[num_blocks, kv_heads, block_size, dim]`, each block contiguous, and already hold the batch's own. Rows of padding are
    not written. `window` is how many tokens a token sees, itself included; `soft_cap` is c of the scores c · tanh(score / c).
    `launch`, `shares` (of a context, worked on side by side) and `partials` (the shares' results, to be merged) are chosen by
    shape if not given; the number of shares changes the last bits, so pin it where a text must not depend on the batch. Raises
    `ConfigError` for tensors that do not fit.
    """
    _check(q, keys, values)
    (num_rows, heads, dim), (_, kv_heads, block_size, _) = q.shape, keys.shape
    group, requests = heads // kv_heads, len(batch.ends)
    launch = launch or choose(ShapeClass(dim, group, q.dtype, batch.most_rows * group <= padded(group)), q.device)
    tokens = _tokens(launch, group)
    single = batch.most_rows <= tokens  # every request is one piece: no search is needed
    pieces = requests if single else num_rows // tokens + requests
    if shares is None:  # chunks have programs enough, and their partial results would be large
        shares = choose_shares(pieces * kv_heads, batch.most_context, q.device) if single else 1
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    if not num_rows or not requests:
        return out
    partials = partials or Partials.empty(shares if shares > 1 else 0, num_rows, heads, dim, q.device)
    _attend[(pieces * kv_heads, shares)](
        q, keys, values, out if shares == 1 else partials.outs, partials.logs, batch.firsts, batch.ends, batch.tables,
        scale * LOG2_E, num_rows, requests, q.stride(0), keys.stride(0), values.stride(0), batch.tables.stride(0),
        kv_heads=kv_heads, group=group, dim=dim, dim_padded=padded(dim), block_size=block_size, window=window or 0,
        cap=(soft_cap or 0.0) * LOG2_E, tokens=tokens, single=single, shared=shares > 1,
        least=-(-LEAST_SHARE // launch.block_n), block_m=launch.block_m, block_n=launch.block_n,
        num_warps=launch.num_warps, num_stages=launch.num_stages,
    )  # fmt: skip
    if shares > 1:
        merge(partials, shares, batch.firsts, out)
    return out


def _check(q: Tensor, keys: Tensor, values: Tensor) -> None:
    """Raise `ConfigError` for tensors the kernel would read wrongly."""
    if q.stride()[1:] != (q.shape[2], 1) and q.numel():
        raise ConfigError(f"the heads of a row of q must be contiguous, not strided by {q.stride()}: pass q.contiguous()")
    for name, cache in (("keys", keys), ("values", values)):
        _, kv_heads, block_size, dim = cache.shape
        if cache.stride()[1:] != (block_size * dim, dim, 1):
            raise ConfigError(f"each block of {name} must be contiguous, not strided by {cache.stride()}")
        if cache.shape != keys.shape or dim != q.shape[2] or cache.dtype != q.dtype or q.shape[1] % kv_heads:
            raise ConfigError(f"{name} {list(cache.shape)} {cache.dtype} do not go with q {list(q.shape)} {q.dtype}")


def _tokens(launch: LaunchConfig, group: int) -> int:
    """Tokens of a piece: a tile's rows by a group's heads."""
    if launch.block_m < group:
        raise ConfigError(f"block_m {launch.block_m} does not hold {group} query heads of one kv head: take {padded(group)}")
    return launch.block_m // group


@triton.jit
def _request_of(firsts, piece, requests, tokens: tl.constexpr):
    """The request of a piece, by binary search, and its first piece.

    Request r begins at piece ⌊first row / tokens⌋ + r: whole pieces of the rows before it, and one more for each request
    before it, for that may end inside one. So no two requests claim the same piece, and a few pieces belong to none.
    """
    base = tl.load(firsts)
    low = tl.full([], 0, tl.int32)  # not a plain 0, which would have no type if there is one request
    high = requests
    while high - low > 1:
        middle = (low + high) // 2
        before = (tl.load(firsts + middle) - base) // tokens + middle <= piece
        low = tl.where(before, middle, low)
        high = tl.where(before, high, middle)
    return low, (tl.load(firsts + low) - base) // tokens + low


@triton.jit
def _visit(
    acc, peak, total, q, keys, values, table, n, high, position, scale, block_stride, value_stride,
    dim: tl.constexpr, dim_padded: tl.constexpr, block_size: tl.constexpr, window: tl.constexpr,
    cap: tl.constexpr, block_n: tl.constexpr, edge: tl.constexpr,
):  # fmt: skip
    """One step of online softmax, over positions [n, n + block_n).

    `edge`: some row may not see all of them.
    """
    at = n + tl.arange(0, block_n)
    dims = tl.arange(0, dim_padded)
    inside = at < high
    # A K/V pool has more than 2³¹ elements, one block has fewer: 64 bits for one number per position, 32 inside.
    block = tl.load(table + at // block_size, mask=inside, other=0).to(tl.int64)
    offset = (at % block_size) * dim
    k_at = keys + (block * block_stride + offset)[None, :] + dims[:, None]
    v_at = values + (block * value_stride + offset)[:, None] + dims[None, :]
    k = tl.load(k_at) if dim == dim_padded else tl.load(k_at, mask=(dims < dim)[:, None], other=0.0)
    scores = tl.dot(q, k, input_precision="ieee") * scale
    if cap > 0:  # tanh x = 2 · sigmoid(2x) - 1
        scores = cap * (2 * tl.sigmoid(2 * scores / cap) - 1)
    if edge:
        seen = at[None, :] <= position[:, None]
        if window > 0:
            seen = seen & (at[None, :] > position[:, None] - window)
        scores = tl.where(seen, scores, float("-inf"))
    highest = tl.maximum(peak, tl.max(scores, 1))
    reference = tl.where(highest > float("-inf"), highest, 0.0)  # a row that has seen nothing yet: -inf - -inf would be NaN
    p = tl.exp2(scores - reference[:, None])
    shrink = tl.exp2(peak - reference)
    # Unwritten slots may hold NaN of a finished request, and 0 · NaN is NaN: they are not read.
    v = tl.load(v_at, mask=inside[:, None] & (dims < dim)[None, :], other=0.0)
    acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
    return acc, highest, total * shrink + tl.sum(p, 1)


@triton.jit
def _context_of(begin, count, start, window: tl.constexpr, tokens: tl.constexpr, shared: tl.constexpr, least: tl.constexpr,
                block_n: tl.constexpr, peeled: tl.constexpr):  # fmt: skip
    """This program's positions [low, high), and the end of unmasked positions."""
    low = tl.maximum(0, start + begin - window + 1) if window > 0 else 0
    high = start + tl.minimum(begin + tokens, count)
    if shared:  # a least share keeps short contexts whole; programs without one end at once
        tiles = tl.maximum(tl.cdiv(tl.cdiv(high - low, block_n), tl.num_programs(1)), least)
        low += tl.program_id(1) * tiles * block_n
        high = tl.minimum(high, low + tiles * block_n)
    clear = low
    if peeled and window == 0:
        clear = low + tl.maximum(tl.minimum(high, start + begin + 1) - low, 0) // block_n * block_n
    return low, clear, high


@triton.jit(do_not_specialize=["num_rows", "requests", "table_stride"])  # they change from batch to batch
def _attend(
    q, keys, values, out, logs, firsts, ends, tables,
    scale, num_rows, requests, q_stride, key_stride, value_stride, table_stride,
    kv_heads: tl.constexpr, group: tl.constexpr, dim: tl.constexpr, dim_padded: tl.constexpr, block_size: tl.constexpr,
    window: tl.constexpr, cap: tl.constexpr, tokens: tl.constexpr, single: tl.constexpr, shared: tl.constexpr,
    least: tl.constexpr, block_m: tl.constexpr, block_n: tl.constexpr,
):  # fmt: skip
    # The last pieces of a long chunk see most: they start first, so that no multiprocessor ends alone with one of them.
    head = tl.program_id(0) % kv_heads
    piece = tl.num_programs(0) // kv_heads - 1 - tl.program_id(0) // kv_heads
    request, begin = (piece, piece) if single else _request_of(firsts, piece, requests, tokens)
    row = tl.load(firsts + request)
    count = tl.load(firsts + request + 1) - row
    begin = (piece - begin) * tokens  # the piece's first token in its chunk
    if begin >= count:
        return
    start = tl.load(ends + request) - count
    lanes = tl.arange(0, block_m)
    token = begin + lanes // group
    query_head = head * group + lanes % group
    dims = tl.arange(0, dim_padded)
    valid = (lanes < tokens * group) & (token < count)
    rows = (row - tl.load(firsts) + token).to(tl.int64)
    at = (rows * q_stride + query_head * dim)[:, None] + dims[None, :]
    query = tl.load(q + at, mask=valid[:, None] & (dims < dim)[None, :], other=0.0)

    # `clear`: a decode has no unmasked stretch worth a loop of its own, which would have to fill its pipeline again.
    low, clear, high = _context_of(begin, count, start, window, tokens, shared, least, block_n, not single)
    keys += head * (block_size * dim)
    values += head * (block_size * dim)
    tables += request.to(tl.int64) * table_stride
    acc = tl.zeros([block_m, dim_padded], tl.float32)
    total = tl.zeros([block_m], tl.float32)
    peak = total + float("-inf")
    for n in range(low, clear, block_n):
        acc, peak, total = _visit(acc, peak, total, query, keys, values, tables, n, high, start + token, scale,
                                  key_stride, value_stride, dim, dim_padded, block_size, window, cap, block_n,
                                  False)  # fmt: skip
    for n in range(clear, high, block_n):
        acc, peak, total = _visit(acc, peak, total, query, keys, values, tables, n, high, start + token, scale,
                                  key_stride, value_stride, dim, dim_padded, block_size, window, cap, block_n,
                                  True)  # fmt: skip

    some = total > 0  # else a share of the context in which the row sees nothing
    total = tl.where(some, total, 1.0)
    if shared:
        rows += tl.program_id(1).to(tl.int64) * num_rows
        tl.store(logs + rows * (kv_heads * group) + query_head, peak + tl.log2(total), mask=valid)
    at = (rows * (kv_heads * group) + query_head)[:, None] * dim + dims[None, :]
    result = (acc / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + at, result, mask=(valid & some)[:, None] & (dims < dim)[None, :])
