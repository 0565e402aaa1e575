"""Microseconds of fused kernels beside the torch operations they replace.

Their inputs are small and were written a moment before, in a model as here: they may lie in a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from on_gpu.bench import Bench
from on_gpu.geometry import Geometry
from on_gpu.paged import BLOCK, pool
from on_gpu.timing import Call, seconds_in_turn
from orcinus.runtime.attention.port import rotate
from orcinus.runtime.kernels.argmax import argmax
from orcinus.runtime.kernels.norm import add_rms_norm, rms_norm
from orcinus.runtime.kernels.penalties import penalise
from orcinus.runtime.kernels.rope_kv import rope_and_write
from orcinus.runtime.kernels.sample import Wishes, sample
from orcinus.runtime.kernels.silu_mul import act_mul
from orcinus.runtime.operators import PLAIN

EPS = 1e-6
TOP_K, TOP_P = 50, 0.9
MOST_SAMPLES = 256  # rows of logits: an iteration has no more requests
SEEN = 500  # tokens of a history
Pair = tuple[Call, Call]  # ours, torch's


def run(bench: Bench) -> None:
    for model in bench.sizes.models:
        for rows in bench.sizes.fused_rows:
            for name, make in PAIRS.items():
                compare(bench, model, name, rows, make)
            if rows <= MOST_SAMPLES:
                for name, make in SAMPLING.items():
                    compare(bench, model, name, rows, make)


def compare(bench: Bench, model: Geometry, name: str, rows: int, make: Callable[[Bench, Geometry, int], Pair]) -> None:
    """One row of the table."""
    ours, plain = make(bench, model, rows)
    took = seconds_in_turn(bench, {"fused": [ours], "plain": [plain]})
    us = {side: None if each is None else each * 1e6 for side, each in took.items()}
    ratio = us["plain"] / us["fused"] if us["plain"] and us["fused"] else None
    cells = {"fused_us": us["fused"], "plain_us": us["plain"], "times_as_fast": ratio}
    bench.row("kernels", model=model.name, kernel=name, rows=rows, **cells)


def _numbers(bench: Bench, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=bench.dtype, device=bench.device)


def _norm(bench: Bench, model: Geometry, rows: int) -> Pair:
    x, weight = _numbers(bench, rows, model.hidden), _numbers(bench, model.hidden)
    return lambda: rms_norm(x, weight, EPS), lambda: PLAIN.rms_norm(x, weight, EPS)


def _add_norm(bench: Bench, model: Geometry, rows: int) -> Pair:
    x, delta = _numbers(bench, rows, model.hidden), _numbers(bench, rows, model.hidden) * 1e-3
    weight = _numbers(bench, model.hidden)
    return lambda: add_rms_norm(x, delta, weight, EPS), lambda: PLAIN.add_rms_norm(x, delta, weight, EPS)


def _gate(bench: Bench, model: Geometry, rows: int) -> Pair:
    x = _numbers(bench, rows, 2 * model.ffn)
    return lambda: act_mul(x), lambda: PLAIN.gated(x, "silu")


def _rope(bench: Bench, model: Geometry, rows: int) -> Pair:
    dim, sizes = model.head_dim, [model.heads, model.kv_heads, model.kv_heads]
    qkv = _numbers(bench, rows, sum(sizes) * dim)
    angle = torch.rand((rows, dim // 2), device=bench.device)
    angles = angle.cos(), angle.sin()
    cos, sin = (part.to(bench.dtype) for part in angles)
    keys, values = pool(rows, model.kv_heads, dim, bench.dtype, bench.device)
    slots = torch.randperm(rows, device=bench.device), torch.randint(0, BLOCK, (rows,), device=bench.device)
    norms = (_numbers(bench, dim), _numbers(bench, dim), EPS) if model.family == "qwen3" else None

    def plain() -> Tensor:
        q, k, v = torch.split(qkv.view(rows, sum(sizes), dim), sizes, dim=1)
        if norms:
            q, k = PLAIN.rms_norm(q, norms[0], EPS), PLAIN.rms_norm(k, norms[1], EPS)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        keys[slots[0], :, slots[1]], values[slots[0], :, slots[1]] = k, v
        return q

    return lambda: rope_and_write(qkv, angles, slots, keys, values, norms), plain


def _argmax(bench: Bench, model: Geometry, rows: int) -> Pair:
    logits = _numbers(bench, rows, model.vocab)
    return lambda: argmax(logits), lambda: logits.float().max(dim=-1)


def _penalties(bench: Bench, model: Geometry, rows: int) -> Pair:
    logits = _numbers(bench, rows, model.vocab).float()
    most = min(SEEN, model.vocab // 2)
    ids = torch.rand(model.vocab, device=bench.device).topk(most).indices.int().expand(rows, most).contiguous()
    counts = torch.randint(0, 3, (rows, most), device=bench.device, dtype=torch.int32)
    once, presence, frequency = (torch.full((rows,), value, device=bench.device) for value in (1.0001, 0.0, 0.0))

    def plain() -> Tensor:
        at = ids.long()
        x, again = logits.gather(1, at), once[:, None]
        x = torch.where(x > 0, x / again, x * again)
        lost = presence[:, None] + frequency[:, None] * counts
        return logits.scatter_(1, at, torch.where(counts > 0, x - lost, x))

    return lambda: penalise(logits, ids, counts, once, presence, frequency), plain


def _wishes(bench: Bench, rows: int, top_k: int, top_p: float) -> Wishes:
    floats = [torch.full((rows,), value, device=bench.device) for value in (0.8, top_p, 0.0)]
    k = torch.full((rows,), top_k, dtype=torch.int32, device=bench.device)
    seeds, positions = torch.randint(0, 2**62, (rows,), device=bench.device), torch.arange(rows, device=bench.device)
    return Wishes(floats[0], k, floats[1], floats[2], seeds, positions)


def _sample(bench: Bench, model: Geometry, rows: int) -> Pair:
    """The plain way has its uniform numbers given; ours makes them."""
    logits, wishes = _numbers(bench, rows, model.vocab), _wishes(bench, rows, 0, 1.0)
    u = torch.rand((rows, 1), dtype=torch.float64, device=bench.device)

    def plain() -> Tensor:
        p = torch.softmax(logits.float() / wishes.temperature[:, None], dim=-1)
        return chosen(p, u)

    return lambda: sample(logits, wishes, False), plain


def _filtered(bench: Bench, model: Geometry, rows: int) -> Pair:
    return _likeliest(bench, model, rows, TOP_K, lambda scaled: scaled.topk(TOP_K, dim=-1))


def _nucleus(bench: Bench, model: Geometry, rows: int) -> Pair:
    """Top-p alone, for which the plain way has to sort the whole vocabulary."""
    return _likeliest(bench, model, rows, 0, lambda scaled: scaled.sort(dim=-1, descending=True))


def _likeliest(bench: Bench, model: Geometry, rows: int, top_k: int, ordered: Callable[[Tensor], Sequence[Tensor]]) -> Pair:
    """Filters that the plain way applies to tokens in their order."""
    logits, wishes = _numbers(bench, rows, model.vocab) * 3, _wishes(bench, rows, top_k, TOP_P)
    u = torch.rand((rows, 1), dtype=torch.float64, device=bench.device)

    def plain() -> Tensor:
        likely, ids = ordered(logits.float() / wishes.temperature[:, None])
        p = torch.softmax(likely, dim=-1)
        p = p * (p.cumsum(-1) - p < wishes.top_p[:, None])
        return ids.gather(1, chosen(p, u))

    return lambda: sample(logits, wishes, True), plain


def chosen(p: Tensor, u: Tensor) -> Tensor:
    """Of each row of `p` the first index whose cumulated weight exceeds u of the whole."""
    cumulated = p.cumsum(dim=-1, dtype=torch.float64)
    return torch.searchsorted(cumulated, u * cumulated[:, -1:], right=True).clamp(max=p.shape[1] - 1)


PAIRS: dict[str, Callable[[Bench, Geometry, int], Pair]] = {
    "rms_norm": _norm,
    "add_rms_norm": _add_norm,
    "act_mul": _gate,
    "rope_kv": _rope,
}
SAMPLING: dict[str, Callable[[Bench, Geometry, int], Pair]] = {
    "argmax": _argmax,
    "penalise": _penalties,
    "sample": _sample,
    f"sample, top_k {TOP_K}, top_p {TOP_P}": _filtered,
    f"sample, top_p {TOP_P}": _nucleus,
}
