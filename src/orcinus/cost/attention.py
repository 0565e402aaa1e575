"""The cost of attention, which grows with pairs of tokens."""

from __future__ import annotations

from orcinus.core.batch import pairs
from orcinus.cost.architecture import Architecture


def pairs_within(start: int, tokens: int, window: int | None) -> int:
    """How many (query, key) pairs a chunk has within the window.

    The chunk is `tokens` tokens from position `start`.
    """
    if window is None or start + tokens <= window:
        return pairs(start, tokens)
    before, after = max(0, start - window), start + tokens - window
    return pairs(start, tokens) - (after * (after + 1) - before * (before + 1)) // 2


def prefill_flops(model: Architecture, tp: int, start: int, tokens: int) -> int:
    """Floating-point operations of a chunk, per layer and device.

    `tp` devices share the heads. Scores and weighted sum are two products, with two operations each for every query-key pair.
    """
    return 4 * (model.heads // tp) * model.head_dim * pairs_within(start, tokens, model.window)


def waves(model: Architecture, tp: int, tokens: int, rows: int | None, sms: int) -> float:
    """Slowdown (>= 1) of a chunk whose thread blocks underfill the device.

    A block computes `rows` tokens of one head, and as many run at a time as there are multiprocessors. A last wave that is
    partly empty, and a last block, cost as much as full ones. This makes small chunks expensive (SARATHI, figure 13a).
    """
    if rows is None:
        return 1.0
    heads, along = model.heads // tp, -(-tokens // rows)
    return -(-heads * along // sms) * sms * rows / (heads * tokens)
