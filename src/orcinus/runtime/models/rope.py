"""Rotary frequencies from a model's config, with the scalings that stretch a context.

The formulas are those of `transformers`, called directly: it knows every published variant and is where checkpoints and
their configs come from.
"""

from __future__ import annotations

from typing import Any

from orcinus.errors import ModelError
from orcinus.runtime.models.spec import Rope

# `dynamic` changes its frequencies only beyond max_position_embeddings, which is where a request ends here.
# `longrope` chooses by the length of the sequence, so that requests of one batch would need different frequencies.
SUPPORTED = ("default", "linear", "dynamic", "yarn", "llama3")


def read_rope(config: Any, head_dim: int) -> Rope:
    """The frequencies for `head_dim` dimensions. Raises `ModelError` for a scaling that is not supported."""
    settings = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = settings.get("rope_type") or settings.get("type") or "default"
    if kind not in SUPPORTED:
        raise ModelError(f"rope scaling {kind!r} is not supported: known are {', '.join(SUPPORTED)}")
    if settings.get("partial_rotary_factor", 1.0) != 1.0:
        raise ModelError("rotary embedding of only a part of each head (partial_rotary_factor) is not supported")
    if head_dim % 2:
        raise ModelError(f"rotary embedding needs an even head size, not {head_dim}")
    if kind == "default":
        theta: float = settings.get("rope_theta") or getattr(config, "rope_theta", None) or 10000.0
        return Rope(tuple(theta ** (-2 * i / head_dim) for i in range(head_dim // 2)))
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    return Rope(tuple(frequencies.tolist()), float(scale))
