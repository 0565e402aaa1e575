"""Rotary frequencies from a config, with scalings for longer contexts.

The formulas are those of `transformers`, called directly: it knows every published variant and is where checkpoints and
their configs come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orcinus.errors import ModelError
from orcinus.model_config import LARGEST, check_sizes, shown
from orcinus.runtime.models.spec import DecoderSpec, Rope

# `dynamic` changes its frequencies only beyond max_position_embeddings, where requests end here: beyond it, requests of one
# batch would need frequencies that depend on their lengths.
SUPPORTED = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
SPELLINGS = ("rope_parameters", "rope_scaling")
POSITIVE = ("rope_theta", "factor", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor")
FACTORS = ("short_factor", "long_factor")  # of longrope: one for each frequency
MOST = 1e30  # of those numbers


def check_rope(config: Mapping[str, Any]) -> None:
    """Raise `ModelError` if a config's rotary numbers are impossible."""
    for name in SPELLINGS:
        settings = config.get(name)
        if settings is not None and not isinstance(settings, Mapping):
            raise ModelError(f"{name} must be an object, not {shown(settings)}")
        for each in _with_inner(settings or {}):
            check_sizes(each, name)
    theta = {"rope_theta": config.get("rope_theta")}
    for settings in (*_with_inner(config.get(SPELLINGS[0]) or {}), *_with_inner(config.get(SPELLINGS[1]) or {}), theta):
        for name in POSITIVE:
            if settings.get(name) is not None and not _is_positive(settings[name]):
                raise ModelError(f"{name} of the rotary embedding must be a number above 0, not {shown(settings[name])}")
        for name in FACTORS:
            factors = settings.get(name)
            if factors is not None and not (isinstance(factors, list) and all(map(_is_positive, factors))):
                raise ModelError(f"{name} of the rotary embedding must be a list of numbers above 0, not {shown(factors)}")


def _with_inner(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Settings, and those of each kind of layer inside them."""
    yield settings
    yield from (inner for inner in settings.values() if isinstance(inner, Mapping))


def read_ropes(config: Any, head_dim: int, kinds: Sequence[str]) -> tuple[tuple[Rope, ...], tuple[int, ...]]:
    """The rotary embeddings of a model, and which of them each layer has.

    `kinds` are the layers' kinds of attention: settings may differ between them. Raises `ModelError` for a scaling that is not
    supported.
    """
    settings = getattr(config, "rope_parameters", None) or {}
    if not any(isinstance(settings.get(kind), Mapping) for kind in kinds):
        return (_read(config, head_dim, settings, None),), (0,) * len(kinds)
    names = sorted(set(kinds))
    if missing := [name for name in names if not isinstance(settings.get(name), Mapping)]:
        raise ModelError(f"the rotary embedding has no settings for {missing[0]}")
    ropes = tuple(_read(config, head_dim, settings[name], name) for name in names)
    return ropes, tuple(map(names.index, kinds))


def rope_notes(spec: DecoderSpec, asked: int | None, model_len: int, config_name: str) -> Iterator[str]:
    """Notes on requests longer than a config says, if allowed, and on scalings that depend on the longest request.

    `asked` is the max_model_len that the user asked for, `model_len` the one that was decided; `config_name`
    names the file with the config.
    """
    made_for = spec.max_position_embeddings
    for rope in spec.ropes:
        if asked is not None and asked > made_for and rope.positions:
            yield (
                f"max_model_len {asked} is beyond the {made_for} positions of {config_name}: its {rope.kind} scaling, which "
                f"holds for requests of every length, stretches the model to {spec.longest_request}"
            )
        if rope.for_length(model_len) != rope:
            yield (
                f"requests may have {model_len} tokens, so all of them get the frequencies that {rope.kind} has for long "
                f"contexts: with max_model_len {rope.short_positions} or less they get those for short ones"
            )


def _read(config: Any, head_dim: int, settings: Mapping[str, Any], layer_type: str | None) -> Rope:
    kind = settings.get("rope_type") or "default"
    if kind not in SUPPORTED:
        raise ModelError(f"rope scaling {shown(kind)} is not supported: known are {', '.join(SUPPORTED)}")
    if settings.get("rope_theta") is None:
        raise ModelError("the rotary embedding has no rope_theta")
    share = settings.get("partial_rotary_factor", 1.0)
    if not _is_positive(share) or share > 1:
        raise ModelError(f"partial_rotary_factor must be a number above 0 and at most 1, not {shown(share)}")
    dims = int(head_dim * share)
    if dims % 2 or not dims:
        of = f"{dims} of the {head_dim} dimensions of each head" if share != 1 else f"{head_dim}"
        raise ModelError(f"rotary embedding needs an even head size, not {of}")
    if kind == "default":
        return Rope(tuple(settings["rope_theta"] ** (-2 * i / dims) for i in range(dims // 2)))
    if kind == "longrope":
        return _long_rope(config, dims, settings, layer_type)
    frequencies, scale = _computed(config, kind, layer_type)
    positions = 0 if layer_type else _stretched(kind, settings, config.max_position_embeddings)
    return Rope(frequencies, scale, kind, positions)


def _long_rope(config: Any, dims: int, settings: Mapping[str, Any], layer_type: str | None) -> Rope:
    """LongRoPE: other frequencies for short and long contexts. Its config names the positions after scaling."""
    for name in FACTORS:
        count = len(settings.get(name) or ())
        if count != dims // 2:
            raise ModelError(f"{name} of the rotary embedding has {count} numbers, and {dims // 2} are needed")
    original = settings["original_max_position_embeddings"]
    short, scale = _computed(config, "longrope", layer_type)
    long, _ = _computed(config, "longrope", layer_type, seq_len=original + 1)
    return Rope(short, scale, "longrope", long_frequencies=long, short_positions=original)


def _computed(config: Any, kind: str, layer_type: str | None, **options: Any) -> tuple[tuple[float, ...], float]:
    """Inverse frequencies and scale, by transformers."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, "cpu", layer_type=layer_type, **options)
    return tuple(frequencies.tolist()), float(scale)


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
