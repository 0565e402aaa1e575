"""Attention alone: GB/s of decodes and TFLOP/s of prompts, beside torch's.

torch's attention gets keys and values that were gathered into one contiguous tensor beforehand, which is the best case for
it: an engine that used it would have to copy them first, or keep them so.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from on_gpu.bench import Bench
from on_gpu.ceilings import COPY, GEMM, copy_rate, gemm_rate
from on_gpu.geometry import Geometry
from on_gpu.paged import BLOCK, alike, pool
from on_gpu.timing import Ring, ring_size, seconds_in_turn
from orcinus.core.batch import pairs
from orcinus.runtime.kernels.attention import paged_attention
from orcinus.runtime.pack import PagedBatch


def run(bench: Bench) -> None:
    bench.ceiling(COPY, copy_rate)
    bench.ceiling(GEMM, gemm_rate)
    for context in bench.sizes.contexts:
        for requests in bench.sizes.batches:
            decode(bench, requests, context)
    for before in bench.sizes.prompt_contexts:
        for rows in bench.sizes.prompt_chunks:
            prompt(bench, before, rows)


@dataclass(frozen=True, slots=True)
class Data:
    """Keys and values of several equal batches: scattered over a pool, and the same ones gathered."""

    keys: Tensor
    values: Tensor
    batches: list[PagedBatch]
    gathered: list[tuple[Tensor, Tensor]]  # each [requests, context, kv_heads, dim]


def make(bench: Bench, model: Geometry, requests: int, context: int, rows: int) -> Data | None:
    """More batches than caches hold; None if one alone does not fit."""
    blocks = -(-context // BLOCK) * requests
    num_bytes = 2 * blocks * BLOCK * model.kv_heads * model.head_dim * bench.dtype.itemsize
    if 2 * num_bytes > bench.sizes.most_bytes:
        return None
    batches = alike(requests, context, rows, ring_size(bench, num_bytes), bench.device)
    keys, values = pool(blocks * len(batches), model.kv_heads, model.head_dim, bench.dtype, bench.device)
    gathered = [(gather(keys, batch.tables, context), gather(values, batch.tables, context)) for batch in batches]
    return Data(keys, values, batches, gathered)


def gather(cache: Tensor, tables: Tensor, context: int) -> Tensor:
    """A copy `[requests, context, kv_heads, dim]`, a request at a time."""
    _, kv_heads, _, dim = cache.shape
    out = torch.empty((len(tables), context, kv_heads, dim), dtype=cache.dtype, device=cache.device)
    for request, table in enumerate(tables):
        out[request] = cache[table.long()].transpose(1, 2).flatten(0, 1)[:context]
    return out


def decode(bench: Bench, requests: int, context: int) -> None:
    """A row for each model: one query for each request."""
    data = make(bench, bench.sizes.models[0], requests, context, 1)
    for model in bench.sizes.models:
        if data is None:
            bench.row("decodes", model=model.name, batch=requests, context=context, note="does not fit")
            continue
        if (model.kv_heads, model.head_dim) != (data.keys.shape[1], data.keys.shape[3]):
            data = make(bench, model, requests, context, 1)
            assert data is not None
        num_bytes = 2 * requests * context * model.kv_heads * model.head_dim * bench.dtype.itemsize
        cells = rates(bench, sides(bench, model, data, 1), num_bytes / 1e9, "gb_per_s")
        share = (cells["gb_per_s"] or 0.0) / bench.ceiling(COPY, copy_rate)
        bench.row("decodes", model=model.name, batch=requests, context=context, of_copy_share=share, **cells)


def prompt(bench: Bench, before: int, rows: int) -> None:
    """A row for each model: one chunk of a prompt after so many tokens."""
    for model in bench.sizes.models:
        data = make(bench, model, 1, before + rows, rows)
        if data is None:
            bench.row("prompts", model=model.name, chunk=rows, before=before, note="does not fit")
            continue
        flops = 4 * pairs(before, rows) * model.heads * model.head_dim
        cells = rates(bench, sides(bench, model, data, rows), flops / 1e12, "tflop_per_s")
        share = (cells["tflop_per_s"] or 0.0) / bench.ceiling(GEMM, gemm_rate)
        bench.row("prompts", model=model.name, chunk=rows, before=before, of_gemm_share=share, **cells)


def rates(bench: Bench, rings: dict[str, Ring], work: float, unit: str) -> dict[str, float | None]:
    """A row: our time and rate, the others' rates, and the differences."""
    took = seconds_in_turn(bench, rings)
    found = {name: None if each is None else work / each for name, each in took.items()}
    ours, us = found.pop("orcinus"), took["orcinus"]
    cells = {"us": None if us is None else us * 1e6, unit: ours}
    return {**cells, **{f"{name}_{unit}": rate for name, rate in found.items()}, "differs": difference(rings, took)}


def sides(bench: Bench, model: Geometry, data: Data, rows: int) -> dict[str, Ring]:
    """Our kernel, and torch's, over the same keys and values; each call takes another batch of them."""
    requests = len(data.batches[0].ends)
    q = torch.empty((requests * rows, model.heads, model.head_dim), dtype=bench.dtype, device=bench.device).normal_()
    scale = float(model.head_dim**-0.5)
    each = range(len(data.batches))
    firsts, ends = (
        torch.arange(requests + 1, dtype=torch.int32, device=q.device) * count for count in (rows, data.gathered[0][0].shape[1])
    )

    def ours(at: int) -> Tensor:
        return paged_attention(q, data.keys, data.values, data.batches[at], scale)

    def torchs(at: int) -> Tensor:
        keys, values = data.gathered[at]
        return dense(q.view(requests, rows, model.heads, -1), keys, values, scale)

    def ragged(at: int) -> Tensor:
        return varlen(q, *data.gathered[at], (firsts, ends), rows, scale)

    calls = {"orcinus": ours, "sdpa": torchs, "varlen": ragged}
    return {name: [partial(call, at) for at in each] for name, call in calls.items()}


def difference(rings: dict[str, Ring], took: dict[str, float | None]) -> float | None:
    """The largest relative difference from ours; None without another result."""
    if took["orcinus"] is None:
        return None
    ours = torch.as_tensor(rings["orcinus"][0]()).float()
    found = [torch.as_tensor(ring[0]()).float().reshape(ours.shape) for name, ring in rings.items() if took[name] is not None]
    return max((float((each - ours).norm() / ours.norm()) for each in found[1:]), default=None)


def dense(q: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """torch's scaled_dot_product_attention, each `[requests, tokens, heads, dim]`; whichever kernel it takes."""
    rows, context = q.shape[1], keys.shape[1]
    q, keys, values = (each.transpose(1, 2) for each in (q, keys, values))
    mask = None if rows == 1 else causal_lower_right(rows, context)
    found: Tensor = scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=scale, enable_gqa=True)
    return found.transpose(1, 2)


def varlen(q: Tensor, keys: Tensor, values: Tensor, borders: tuple[Tensor, Tensor], rows: int, scale: float) -> Tensor:
    """torch's variable-length attention. It came with torch 2.10, and its options differ from version to version."""
    from torch.nn.attention.varlen import varlen_attn

    context = keys.shape[1]
    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    if "enable_gqa" in known:
        options["enable_gqa"] = True
    found = varlen_attn(q, keys.flatten(0, 1), values.flatten(0, 1), *borders, rows, context, scale=scale, **options)
    assert isinstance(found, Tensor)
    return found
