"""transformers' class for a config, if its layers can run here: decided from the class and the config alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch

from orcinus.errors import ModelError
from orcinus.model_config import LARGEST, shown
from orcinus.runtime.models.read_spec import named_architectures
from orcinus.runtime.models.rope import check_rope
from orcinus.runtime.quant_methods import quantization_settings
from orcinus.runtime.transformers_backend.interface import NAME, register

# Fields that say how transformers runs a model, not what the model is; those that begin with "_" do as well.
IGNORED = {"auto_map", "architectures", "dtype", "torch_dtype", "use_cache", "return_dict", "use_return_dict", "torchscript"}
IGNORED |= {"output_attentions", "output_hidden_states", "output_router_logits", "pruned_heads", "chunk_size_feed_forward"}
IGNORED |= {
    "id2label",
    "label2id",
    "fusion_config",
    "transformers_weights",
    "transformers_version",
    "attn_implementation",
    "experts_implementation",
}
LAYERS = {"full_attention", "sliding_attention"}
BY_LENGTH = {"dynamic", "longrope", "su"}  # scalings that rotate a key by the length of the sequence it is in


class Unsuitable(ModelError):
    """Why transformers' code for a model cannot run in this engine, as the end of a sentence."""


def find_class(config: Mapping[str, Any]) -> tuple[str, str]:
    """The architecture of a config and the JSON of what its class reads.

    Raises `Unsuitable` if transformers has no class for it, or one that cannot run here.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        code = " and the code that its auto_map names is never run" if config.get("auto_map") else ""
        raise Unsuitable(f"the installed transformers has no model_type {shown(kind)},{code}".rstrip(","))
    if quantization_settings(config):
        raise Unsuitable("quantized checkpoints need a row of our own: use the original weights")
    found = _causal_class(CONFIG_MAPPING[kind])
    named = named_architectures(config)
    if found is None or (named and found.__name__ not in named and not _is_base(found, named)):
        raise Unsuitable("transformers has no causal language model for it")
    kept = _kept(config)
    check_rope(kept)
    if (reason := next(_reasons(found, kept, CONFIG_MAPPING[kind]), None)) is not None:
        raise Unsuitable(reason)
    return found.__name__, json.dumps(kept | {"model_type": kind})


def _causal_class(kind: Any) -> Any:
    """transformers' causal language model for a class of configs; None if it has none."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    found = MODEL_FOR_CAUSAL_LM_MAPPING.get(kind, None)
    return found[0] if isinstance(found, tuple) else found


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that describe the model, inner configs included."""
    kept = {name: value for name, value in config.items() if name not in IGNORED and not name.startswith("_")}
    return {name: _kept(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def _is_base(found: Any, named: list[Any]) -> bool:
    """Whether a checkpoint is of the model without its head."""
    return any(isinstance(name, str) and name == found.__name__.replace("ForCausalLM", "Model") for name in named)


def _reasons(found: Any, fields: Mapping[str, Any], kind: Any) -> Iterator[str]:
    """What keeps a class from running here: of the class itself, then of a config."""
    if not getattr(found, "_supports_attention_backend", False):
        yield "transformers' code for it takes no other attention"
    if getattr(found, "_is_stateful", False):
        yield "its layers keep a state besides keys and values"
    config = kind.from_dict(deepcopy(dict(fields)))
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", False):
        yield "it attends to an encoder"
    if config.get_text_config() is not config:
        yield "it reads more than text"
    if others := set(getattr(config, "layer_types", None) or []) - LAYERS:
        yield f"it has layers of type {', '.join(sorted(map(str, others)))}"
    if not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", None):
        yield "its tokens see later ones"
    if scaling := set(_rope_types(config)) & BY_LENGTH:
        yield f"its {', '.join(sorted(scaling))} scaling rotates a key by the length of the sequence that it is in"
    if not any(getattr(config, name, None) for name in _names("max_position_embeddings")):
        yield "its config does not say how long a request may be (max_position_embeddings)"


def _rope_types(config: Any) -> Iterator[str]:
    found = getattr(config, "rope_parameters", None) or {}
    for settings in (found, *(each for each in found.values() if isinstance(each, Mapping))):
        yield str(settings.get("rope_type", settings.get("type", "default")))


def _names(field: str) -> list[str]:
    """All names of a size in configs."""
    return [name for name, bound in LARGEST.items() if bound == LARGEST[field]]


def most_positions(config: Any) -> int:
    """Positions that a model was made for."""
    return next(int(value) for name in _names("max_position_embeddings") if (value := getattr(config, name, None)))


def make_config(spec_config: str) -> Any:
    """transformers' config object, with our attention."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    register()
    fields = json.loads(spec_config)
    made = CONFIG_MAPPING[fields["model_type"]].from_dict(fields)
    made._attn_implementation = NAME
    return made


def model_class(config: Any) -> Any:
    """transformers' causal language model for a config."""
    return _causal_class(type(config))


def make_skeleton(spec_config: str, dtype: torch.dtype) -> Any:
    """The model on the meta device: modules without numbers."""
    config, default = make_config(spec_config), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            return model_class(config)(config).eval()
    finally:
        torch.set_default_dtype(default)
