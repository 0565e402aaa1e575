"""What the kernels should give, in float64, by plain formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from on_gpu.paged import BLOCK, Paged


def error(found: Tensor, truth: Tensor) -> float:
    """‖found − truth‖ / ‖truth‖; infinite if anything is not a finite number."""
    distance = float((found.double() - truth).norm() / truth.norm())
    return distance if distance == distance else float("inf")


def attention(it: Paged, window: int | None) -> Tensor:
    """softmax(q · keysᵀ · scale) · values of every row over its own sequence, shaped like q."""
    out = torch.zeros(it.q.shape, dtype=torch.float64, device=it.q.device)
    firsts, ends = it.batch.firsts.tolist(), it.batch.ends.tolist()
    for request, end in enumerate(ends):
        rows = slice(firsts[request], firsts[request + 1])
        if end:
            table = it.batch.tables[request, : -(-end // BLOCK)].long()
            out[rows] = _one(it.q[rows].double(), it.keys[table], it.values[table], end, it.scale, window)
    return out


def _one(q: Tensor, keys: Tensor, values: Tensor, end: int, scale: float, window: int | None) -> Tensor:
    """One request: `q` `[rows, heads, dim]`, the last of `end` positions; keys and values are its blocks."""
    keys, values = (each.transpose(0, 1).flatten(1, 2)[:, :end].double() for each in (keys, values))
    rows, heads, dim = q.shape
    q = q.transpose(0, 1).reshape(len(keys), -1, dim)  # the heads of a group stand together, rows inside
    position = torch.arange(end - rows, end, device=q.device).repeat(heads // len(keys))[:, None]
    at = torch.arange(end, device=q.device)[None, :]
    seen = at <= position
    if window is not None:
        seen &= at > position - window
    scores = (q @ keys.transpose(1, 2) * scale).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ values).reshape(heads, rows, dim).transpose(0, 1)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.double()
    return wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.double()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of the first 2 · half numbers of every head of `x`.

    `x` is `[T, heads, dim]`; the pairs are (i, i + half).
    """
    half = cos.shape[-1]
    first, second, rest = torch.split(x, [half, half, x.shape[-1] - 2 * half], dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def gated(x: Tensor, act: str) -> Tensor:
    """act(gate) · up of the two halves."""
    gate, up = x.double().chunk(2, dim=-1)
    active = torch.nn.functional.silu(gate) if act == "silu" else torch.nn.functional.gelu(gate, approximate="tanh")
    return active * up


def penalised(logits: Tensor, ids: Tensor, counts: Tensor, repetition: Tensor, presence: Tensor, frequency: Tensor) -> Tensor:
    """Logits after repetition, presence and frequency penalties."""
    wide, at = logits.double(), ids.clamp(min=0).long()
    x = wide.gather(1, at)
    again = repetition.double()[:, None]
    x = torch.where(x > 0, x / again, x * again)
    lost = presence.double()[:, None] + frequency.double()[:, None] * counts
    x = torch.where(counts > 0, x - lost, x)
    for row, seen in enumerate(ids >= 0):
        wide[row, at[row][seen]] = x[row][seen]
    return wide


def distance(logits: Tensor, token: int, u: float, temperature: float, top_k: int, top_p: float, min_p: float) -> float:
    """The distance of a uniform number from its token's share of [0, 1).

    0 = exactly this token was to be chosen. 1 = one that no filter leaves, or of greedy rows another than the likeliest.
    """
    if temperature < 1e-5:
        return float(token != int(logits.argmax()))
    wide = logits.double()
    weights = ((wide - wide.max()) / temperature).exp()
    place = token
    if top_k > 0 or top_p < 1 or min_p > 0:
        weights, ids = weights.sort(descending=True, stable=True)
        place = int((ids == token).nonzero()[0, 0])
        kth = weights[top_k - 1] if 0 < top_k < len(weights) else 0.0
        weights = weights[(weights >= min_p) & (weights >= kth)]  # a beginning of the order, with all that equal the k-th
        keep = weights.cumsum(0) - weights < top_p * weights.sum()
        keep[0] = True
        weights = weights[keep]
    if place >= len(weights):
        return 1.0
    reached = weights.cumsum(0) / weights.sum()
    low, high = float(reached[place] - weights[place] / weights.sum()), float(reached[place])
    return max(0.0, low - u, u - high)
