"""Rotary frequencies from a config, with scalings for longer contexts.

The formulas are those of `transformers`, called directly: it knows every published variant and is where checkpoints and
their configs come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orcinus.errors import ModelError
from orcinus.model_config import LARGEST, check_sizes, shown
from orcinus.runtime.models.spec import Rope

# `dynamic` changes its frequencies only beyond max_position_embeddings, where requests end here: beyond it, and
# with `longrope` always, requests of one batch would need frequencies that depend on their lengths.
SUPPORTED = ("default", "linear", "dynamic", "yarn", "llama3")
SPELLINGS = ("rope_parameters", "rope_scaling")
POSITIVE = ("rope_theta", "factor", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor")
MOST = 1e30  # of those numbers


def check_rope(config: Mapping[str, Any]) -> None:
    """Raise `ModelError` if a config's rotary numbers are impossible."""
    for name in SPELLINGS:
        settings = config.get(name)
        if settings is not None and not isinstance(settings, Mapping):
            raise ModelError(f"{name} must be an object, not {shown(settings)}")
        check_sizes(settings or {}, name)
    for settings in (config.get(SPELLINGS[0]) or {}, config.get(SPELLINGS[1]) or {}, {"rope_theta": config.get("rope_theta")}):
        for name in POSITIVE:
            if settings.get(name) is not None and not _is_positive(settings[name]):
                raise ModelError(f"{name} of the rotary embedding must be a number above 0, not {shown(settings[name])}")


def read_rope(config: Any, head_dim: int) -> Rope:
    """The frequencies for `head_dim` dimensions.

    Raises `ModelError` for a scaling that is not supported.
    """
    settings = getattr(config, "rope_parameters", None) or {}
    kind = settings.get("rope_type") or "default"
    if kind not in SUPPORTED:
        raise ModelError(f"rope scaling {shown(kind)} is not supported: known are {', '.join(SUPPORTED)}")
    if settings.get("partial_rotary_factor", 1.0) != 1.0:
        raise ModelError("rotary embedding of only a part of each head (partial_rotary_factor) is not supported")
    if head_dim % 2:
        raise ModelError(f"rotary embedding needs an even head size, not {head_dim}")
    if settings.get("rope_theta") is None:
        raise ModelError("the rotary embedding has no rope_theta of its own: settings for each kind of layer are not supported")
    if kind == "default":
        return Rope(tuple(settings["rope_theta"] ** (-2 * i / head_dim) for i in range(head_dim // 2)))
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    return Rope(tuple(frequencies.tolist()), float(scale), kind, _stretched(kind, settings, config.max_position_embeddings))


def _stretched(kind: str, settings: Mapping[str, Any], positions: int) -> int:
    """The longest request a scaling allows, as vLLM reads it.

    `positions` are those of the config.
    """
    if kind == "dynamic" or settings.get("factor") is None:
        return positions
    original = positions if kind == "linear" else settings["original_max_position_embeddings"]
    return max(positions, int(min(settings["factor"] * original, LARGEST["max_position_embeddings"])))


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST
