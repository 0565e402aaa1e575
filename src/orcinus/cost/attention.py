"""Attention: the part of an iteration that costs by pairs of tokens, not by tokens."""

from __future__ import annotations

from orcinus.core.batch import pairs
from orcinus.cost.architecture import Architecture


def prefill_flops(model: Architecture, tp: int, start: int, tokens: int) -> int:
    """Floating-point operations of one layer, on one of `tp` devices, for a chunk of `tokens` tokens from position `start`.

    Two products, scores and weighted sum, of two operations each for every pair of a token and one that it attends to.
    """
    return 4 * (model.heads // tp) * model.head_dim * pairs(start, tokens)


def kv_read_bytes(model: Architecture, tp: int, context: int) -> int:
    """Bytes of keys and values that one layer reads, on one of `tp` devices, for decodes that attend to `context` tokens."""
    return context * model.layer_kv_bytes(tp)
