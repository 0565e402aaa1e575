"""The registry of architectures: configs and weight names.

A Llama-like model is one row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orcinus.errors import ModelError
from orcinus.runtime.models.rope import read_rope
from orcinus.runtime.models.spec import DecoderSpec

Switch = bool | str  # a constant, or the name of the config field that says it


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint's tensor goes: a parameter, or a part of one."""

    parameter: str
    part: int | None = None  # 0, 1, 2 = query, key, value; 0, 1 = gate, up
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture: how to read its config, and where its tensors go.

    Names are those inside `WRAPPERS`.
    """

    model_type: str  # in configs
    base: str  # the architecture of a checkpoint without a head; the same model if the head is tied
    read: Callable[[Any], DecoderSpec]
    outer: Mapping[str, Place]  # module name -> place, outside the layers
    layer: re.Pattern[str]  # matches a layer's tensor: (index, module, kind of tensor: weight, bias, scale, …)
    inner: Mapping[str, Place]  # module name inside a layer -> place
    ignored: re.Pattern[str]  # buffers of old checkpoints
    examples: str
    layers: str = "layers"  # what a layer's number follows in names

    def place(self, name: str) -> Place | None:
        """The place of tensor `name`; None if this architecture has none."""
        name = WRAPPERS.sub("", name)
        module, _, kind = name.rpartition(".")
        if match := self.layer.fullmatch(name):
            index, module, kind = match.groups()
            place = self.inner.get(module)
            prefix = f"layers.{index}."
        else:
            place, prefix = self.outer.get(module), ""
        if place is None:
            return None
        return Place(f"{prefix}{place.parameter}.{kind}", place.part, place.transposed and kind == "weight")

    def module(self, name: str) -> Place | None:
        """The place of a module, the same in every layer; None if this architecture has none."""
        name = WRAPPERS.sub("", name)
        match = self.layer.fullmatch(f"{name}.weight")
        return self.inner.get(match[2]) if match else self.outer.get(name)

    def source(self, parameter: str, part: int) -> str:
        """A checkpoint's name for a parameter or its part: `place`, inverted."""
        name, _, kind = parameter.rpartition(".")
        for module, place in [*self.outer.items(), *self.inner.items()]:
            if place.part in (None, part) and f".{name}".endswith(f".{place.parameter}"):
                prefix = name.removesuffix(place.parameter)
                return f"{prefix.replace('layers', self.layers)}{module}.{kind}"
        return parameter

    def skips(self, name: str) -> bool:
        """Whether a tensor is an old buffer, which may be ignored."""
        return self.ignored.fullmatch(WRAPPERS.sub("", name)) is not None


def llama_like(
    model_type: str,
    base: str,
    examples: str,
    *,
    qkv_bias: Switch = False,
    out_bias: Switch = False,
    mlp_bias: Switch = False,
    qk_norm: bool = False,
    windows: bool = True,
    no_rope_layers: bool = False,
) -> Family:
    """A row of the Llama-like family.

    It has RMS norms, rotary positions, a gated MLP and grouped-query attention. `windows` and `no_rope_layers` say whether the
    architecture uses these fields of a config; some configs have them without effect.
    """

    def read(config: Any) -> DecoderSpec:
        def switch(value: Switch) -> bool:
            return bool(getattr(config, value, False)) if isinstance(value, str) else value

        layers, heads = config.num_hidden_layers, config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        if heads % kv_heads:
            raise ModelError(f"{heads} query heads cannot be shared out to {kv_heads} key/value heads")
        rotary = config.no_rope_layers[:layers] if no_rope_layers else [1] * layers  # 1 means: rope is used (SmolLM3's naming)
        return DecoderSpec(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            max_position_embeddings=config.max_position_embeddings,
            norm="rms",
            norm_eps=config.rms_norm_eps,
            activation=config.hidden_act,
            gated_mlp=True,
            qkv_bias=switch(qkv_bias),
            out_bias=switch(out_bias),
            mlp_bias=switch(mlp_bias),
            qk_norm=qk_norm,
            tied=bool(config.tie_word_embeddings),
            rope=read_rope(config, head_dim),
            scales=(head_dim**-0.5,) * layers,
            windows=_windows(config, layers) if windows else (None,) * layers,
            rotary=tuple(map(bool, rotary)),
        )

    ignored = re.compile(r".*\.rotary_emb\.inv_freq")
    return Family(model_type, base, read, LLAMA_OUTER, LLAMA_LAYER, LLAMA_INNER, ignored, examples)


def _windows(config: Any, layers: int) -> tuple[int | None, ...]:
    """Each layer's sliding window, by `layer_types` if the config has it."""
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    if window is not None and window < 1:
        raise ModelError(f"sliding_window must be at least 1, not {window}")
    unknown = set(types) - {"sliding_attention", "full_attention"}
    if unknown:
        raise ModelError(f"attention of type {', '.join(sorted(unknown))} is not supported")
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def _read_gpt2(config: Any) -> DecoderSpec:
    """The spec of GPT-2, and of GPT-3 without its sparse layers."""
    layers, head_dim = config.num_hidden_layers, config.hidden_size // config.num_attention_heads
    if config.hidden_size % config.num_attention_heads:
        raise ModelError(f"{config.num_attention_heads} heads cannot share {config.hidden_size} dimensions equally")
    scale = head_dim**-0.5 if config.scale_attn_weights else 1.0
    by_layer = config.scale_attn_by_inverse_layer_idx
    return DecoderSpec(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.n_inner or 4 * config.hidden_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_attention_heads,
        head_dim=head_dim,
        max_position_embeddings=config.max_position_embeddings,
        norm="layer",
        norm_eps=config.layer_norm_epsilon,
        activation=config.activation_function,
        gated_mlp=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        qk_norm=False,
        tied=bool(config.tie_word_embeddings),
        rope=None,
        scales=tuple(scale / (index + 1 if by_layer else 1) for index in range(layers)),
        windows=(None,) * layers,
        rotary=(False,) * layers,
    )


# What stands before a tensor's own name depends on what was saved: a whole model, its base alone (nothing then, as in
# OpenAI's release of GPT-2), the text part of a larger one, or a model wrapped for training.
WRAPPERS = re.compile(r"^(?:(?:model|transformer|language_model|base_model|module|_orig_mod)\.)+")
LLAMA_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.(\w+)")
LLAMA_OUTER = {"embed_tokens": Place("embed"), "norm": Place("norm"), "lm_head": Place("head")}
LLAMA_INNER = {
    "input_layernorm": Place("attention_norm"),
    "self_attn.q_proj": Place("attention.qkv", 0),
    "self_attn.k_proj": Place("attention.qkv", 1),
    "self_attn.v_proj": Place("attention.qkv", 2),
    "self_attn.q_norm": Place("attention.q_norm"),
    "self_attn.k_norm": Place("attention.k_norm"),
    "self_attn.o_proj": Place("attention.out"),
    "post_attention_layernorm": Place("mlp_norm"),
    "mlp.gate_proj": Place("mlp.up", 0),
    "mlp.up_proj": Place("mlp.up", 1),
    "mlp.down_proj": Place("mlp.down"),
}

GPT2 = Family(
    model_type="gpt2",
    base="GPT2Model",
    read=_read_gpt2,
    outer={"wte": Place("embed"), "wpe": Place("positions"), "ln_f": Place("norm"), "lm_head": Place("head")},
    layer=re.compile(r"h\.(\d+)\.(ln_1|ln_2|attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.(\w+)"),
    inner={
        "ln_1": Place("attention_norm"),
        "attn.c_attn": Place("attention.qkv", transposed=True),
        "attn.c_proj": Place("attention.out", transposed=True),
        "ln_2": Place("mlp_norm"),
        "mlp.c_fc": Place("mlp.up", transposed=True),
        "mlp.c_proj": Place("mlp.down", transposed=True),
    },
    ignored=re.compile(r"h\.\d+\.attn\.(bias|masked_bias)"),
    examples="GPT-2 (all sizes), GPT-3 geometry",
    layers="h",
)

ARCHITECTURES: dict[str, Family] = {
    "LlamaForCausalLM": llama_like(
        "llama",
        "LlamaModel",
        "Llama 2, Llama 3.x, SmolLM, SmolLM2, Yi",
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        mlp_bias="mlp_bias",
        windows=False,
    ),
    "MistralForCausalLM": llama_like("mistral", "MistralModel", "Mistral 7B (sliding window)"),
    "Qwen2ForCausalLM": llama_like("qwen2", "Qwen2Model", "Qwen2, Qwen2.5", qkv_bias=True),
    "Qwen3ForCausalLM": llama_like(
        "qwen3", "Qwen3Model", "Qwen3, the bundled model", qkv_bias="attention_bias", out_bias="attention_bias", qk_norm=True
    ),
    "SmolLM3ForCausalLM": llama_like(
        "smollm3",
        "SmolLM3Model",
        "SmolLM3",
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        mlp_bias="mlp_bias",
        no_rope_layers=True,
    ),
    "GPT2LMHeadModel": GPT2,
}
