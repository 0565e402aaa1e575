"""A model's spec from its config.json, as transformers reads it: with defaults and current names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

from orcinus.disk_cache import DiskCache
from orcinus.errors import ModelError
from orcinus.model_config import LARGEST, check_sizes, shown
from orcinus.runtime.models import families, family, mixture_families, rope, rows, spec
from orcinus.runtime.models.families import ARCHITECTURES
from orcinus.runtime.models.family import Family
from orcinus.runtime.models.rope import SPELLINGS, check_rope
from orcinus.runtime.models.spec import DecoderSpec

# Fields that every family reads if they are fields of the config class, besides its own; then fields read in any config.
READ = {*LARGEST, "hidden_act", "rms_norm_eps", "tie_word_embeddings"}
READ |= {"sliding_window", "use_sliding_window", "max_window_layers", "layer_types", "no_rope_layers", "no_rope_layer_interval"}
READ_ANYWHERE = {"head_dim", "partial_rotary_factor", "original_max_position_embeddings", "rope_theta", *SPELLINGS}
READ_ANYWHERE |= {"rotary_pct", "rotary_emb_base", "rope_local_base_freq", "sliding_window_pattern"}  # older names
SOURCES = (__file__, *(module.__file__ for module in (families, family, mixture_families, rope, rows, spec)))
KEPT = DiskCache("specs", ("transformers",), SOURCES)


def named_architectures(config: Mapping[str, Any]) -> list[Any]:
    """What a config names as its architectures, whatever that is."""
    named = config.get("architectures")
    return named if isinstance(named, list) else [] if named is None else [named]


def find_architecture(config: Mapping[str, Any], folder: Path) -> str:
    """The architecture that a config names, or else the one of its model_type."""
    listed, kind = named_architectures(config), config.get("model_type")
    if not listed:
        found = next((name for name, row in ARCHITECTURES.items() if row.model_type == kind), None)
        if found is None:
            raise ModelError(f"model_type {shown(kind)} in {folder} is not supported: see `orcinus models`")
        return found
    for name, row in ARCHITECTURES.items():
        if name in listed or row.base in listed:
            return name
    names = ", ".join(str(name) if isinstance(name, str) else shown(name) for name in listed[:3])
    raise ModelError(f"architecture {names[:100]} in {folder} is not supported: see `orcinus models`")


def read_spec(config: Mapping[str, Any], row: Family) -> DecoderSpec:
    """The spec of a config; transformers is asked once for each config.

    A config can make its readers raise anything, `ModelError` among it.
    """
    question = json.dumps([row.model_type, row.base, config]).encode()
    if (kept := KEPT.find(question)) is not None:
        return DecoderSpec.from_json(kept)
    if row.text_type is not None:
        config = _text_config(config)
    check_rope(config)
    with _quiet_transformers():
        found = row.read(_with_defaults(config, row))
    KEPT.keep(question, found.to_json())
    return found


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that describes the text model. Raises `ModelError`."""
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        raise ModelError(f"text_config must be an object, not {shown(inner)}")
    check_sizes(inner, "text_config")
    tied = config.get("tie_word_embeddings")
    return inner if tied is None else {**inner, "tie_word_embeddings": tied}


def _with_defaults(config: Mapping[str, Any], row: Family) -> Any:
    """A config as transformers reads it, with defaults and current rope names.

    Null values are dropped from rope settings, too; transformers would calculate with them. `su` is the first name of LongRoPE.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[row.text_type or row.model_type]
    known = {field.name for field in fields(kind)} | {*kind.attribute_map, *kind.attribute_map.values()}
    wanted = known & (READ | row.config_fields) | READ_ANYWHERE
    found = deepcopy({name: value for name, value in config.items() if name in wanted})
    for name in SPELLINGS:
        if settings := found.get(name):
            found[name] = {key: "longrope" if value == "su" else value for key, value in settings.items() if value is not None}
    return kind(**found)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings: we report errors of configs ourselves."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
