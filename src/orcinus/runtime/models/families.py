"""The registry of architectures: one row each.

A row says in which fields of `DecoderSpec` an architecture differs from a plain Llama, and how its checkpoints name tensors.
"""

from __future__ import annotations

from typing import Any

from orcinus.errors import ModelError
from orcinus.runtime.models.family import Family, Field, Flag, equal_heads, nowhere, windows
from orcinus.runtime.models.mixture_families import MIXTURES
from orcinus.runtime.models.rows import ALL_BIASES, ATTENTION_BIAS, GRANITE, GRANITE_READS, Switches, row
from orcinus.runtime.models.tensor_names import (
    FALCON,
    GLM,
    GLM4,
    GPT2,
    GPT_NEOX,
    LLAMA,
    OPT,
    PAIRED,
    PHI,
    PHI3,
    SANDWICH,
    STARCODER2,
    UNGATED,
    text_of,
)

BIASED: Switches = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
COHERE: Switches = {
    "norm": "layer",
    "norm_eps": Field("layer_norm_eps"),
    "parallel": True,
    "shared_norm": True,
    "logit_multiplier": Field("logit_scale"),
    **ATTENTION_BIAS,
}
LAYER_NORM: Switches = {"norm": "layer", "norm_bias": True, "norm_eps": Field("layer_norm_eps")}
GPT_HEADS: Switches = {"head_dim": equal_heads, "num_kv_heads": Field("num_attention_heads")}
GEMMA: Switches = {
    "norm_offset": 1.0,
    "embedding_multiplier": lambda config: config.hidden_size**0.5,
    **ATTENTION_BIAS,
}
LOGIT_SOFT_CAP: Switches = {"logit_soft_cap": Field("final_logit_softcapping")}


def _gpt2_scales(config: Any) -> tuple[float, ...]:
    scale = equal_heads(config) ** -0.5 if config.scale_attn_weights else 1.0
    by_layer = config.scale_attn_by_inverse_layer_idx
    return tuple(scale / (index + 1 if by_layer else 1) for index in range(config.num_hidden_layers))


def _gemma_scales(config: Any) -> tuple[float, ...]:
    scale: float = config.query_pre_attn_scalar**-0.5
    return tuple(scale for _ in range(config.num_hidden_layers))


def _opt_hidden_size(config: Any) -> int:
    if config.word_embed_proj_dim != config.hidden_size:
        raise ModelError(
            f"word_embed_proj_dim {config.word_embed_proj_dim} in a model of {config.hidden_size} dimensions is not supported"
        )
    return int(config.hidden_size)


def _falcon_kv_heads(config: Any) -> int:
    if config.new_decoder_architecture or not config.multi_query:
        return int(config.num_kv_heads or config.num_attention_heads)
    return 1


def _falcon_shares_norm(config: Any) -> bool:
    return bool(config.num_ln_in_parallel_attn == 1 if config.new_decoder_architecture else config.parallel_attn)


GEMMA3: Switches = {
    "activation": Field("hidden_activation"),
    "norm_outputs": True,
    "qk_norm": "head",
    "windows": windows,
    "scales": _gemma_scales,
    "required": {"use_bidirectional_attention": False},
    "reads": ("query_pre_attn_scalar",),
    **GEMMA,
    **LOGIT_SOFT_CAP,  # that of attention is a field of its configs, and its attention has none: norms took its place
}

ARCHITECTURES: dict[str, Family] = {
    "LlamaForCausalLM": row("llama", "LlamaModel", "Llama 2, Llama 3.x, SmolLM, SmolLM2, Yi", **ALL_BIASES),
    "MistralForCausalLM": row("mistral", "MistralModel", "Mistral 7B (sliding window)", windows=windows),
    "MinistralForCausalLM": row("ministral", "MinistralModel", "Ministral 8B", windows=windows),
    "Qwen2ForCausalLM": row("qwen2", "Qwen2Model", "Qwen2, Qwen2.5", windows=windows, qkv_bias=True),
    "Qwen3ForCausalLM": row(
        "qwen3", "Qwen3Model", "Qwen3, the bundled model", windows=windows, qk_norm="head", **ATTENTION_BIAS
    ),
    "SmolLM3ForCausalLM": row(
        "smollm3",
        "SmolLM3Model",
        "SmolLM3",
        windows=windows,
        rotated=lambda config: [
            bool(rope) for rope in config.no_rope_layers[: config.num_hidden_layers]
        ],  # 1 means: it is used
        **ALL_BIASES,
    ),
    "GemmaForCausalLM": row("gemma", "GemmaModel", "Gemma", **GEMMA),
    "Gemma2ForCausalLM": row(
        "gemma2",
        "Gemma2Model",
        "Gemma 2",
        SANDWICH,
        activation=Field("hidden_activation"),
        norm_outputs=True,
        windows=windows,
        scales=_gemma_scales,
        soft_cap=Field("attn_logit_softcapping"),
        reads=("query_pre_attn_scalar",),
        **GEMMA,
        **LOGIT_SOFT_CAP,
    ),
    "Gemma3ForCausalLM": row("gemma3_text", "Gemma3TextModel", "Gemma 3 270M and 1B", SANDWICH, **GEMMA3),
    "Gemma3ForConditionalGeneration": row(
        "gemma3", "Gemma3Model", "Gemma 3 4B to 27B (text alone)", text_of(SANDWICH), text_type="gemma3_text", **GEMMA3
    ),
    "Mistral3ForConditionalGeneration": row(
        "mistral3",
        "Mistral3Model",
        "Mistral Small 3.1 and 3.2 (text alone)",
        text_of(LLAMA),
        text_type="mistral",
        windows=windows,
    ),
    "Phi3ForCausalLM": row("phi3", "Phi3Model", "Phi-3, Phi-3.5, Phi-4, Phi-4-mini", PHI3, windows=windows),
    "PhiForCausalLM": row(
        "phi",
        "PhiModel",
        "Phi-1, Phi-1.5, Phi-2",
        PHI,
        parallel=True,
        shared_norm=True,
        gated_mlp=False,
        head_bias=True,
        required={"qk_layernorm": False},
        **BIASED,
        **LAYER_NORM,
    ),
    "GPTNeoXForCausalLM": row(
        "gpt_neox",
        "GPTNeoXModel",
        "Pythia, GPT-NeoX 20B",
        GPT_NEOX,
        parallel=Flag("use_parallel_residual"),
        gated_mlp=False,
        mlp_bias=True,
        **ATTENTION_BIAS,
        **GPT_HEADS,
        **LAYER_NORM,
    ),
    "OlmoForCausalLM": row(
        "olmo",
        "OlmoModel",
        "OLMo",
        norm="layer",
        norm_weight=False,
        norm_eps=1e-5,
        clip_qkv=Field("clip_qkv"),
        **ATTENTION_BIAS,
    ),
    "Olmo2ForCausalLM": row(
        "olmo2", "Olmo2Model", "OLMo 2", SANDWICH, norm_inputs=False, norm_outputs=True, qk_norm="all", **ATTENTION_BIAS
    ),
    "Olmo3ForCausalLM": row(
        "olmo3",
        "Olmo3Model",
        "OLMo 3",
        SANDWICH,
        norm_inputs=False,
        norm_outputs=True,
        qk_norm="all",
        windows=windows,
        **ATTENTION_BIAS,
    ),
    "GraniteForCausalLM": row("granite", "GraniteModel", "Granite 3.x", reads=GRANITE_READS, **GRANITE, **ALL_BIASES),
    "CohereForCausalLM": row(
        "cohere",
        "CohereModel",
        "Command R, Aya 23",
        LLAMA.but(PAIRED),
        **COHERE,
        required={"use_qk_norm": False},
    ),
    "Cohere2ForCausalLM": row(
        "cohere2",
        "Cohere2Model",
        "Command R7B, Command A",
        LLAMA.but(PAIRED),
        **COHERE,
        windows=windows,
        rotated=lambda config: [window is not None for window in windows(config)],
    ),
    "StableLmForCausalLM": row(
        "stablelm",
        "StableLmModel",
        "StableLM 3B, StableLM 2",
        qkv_bias=Flag("use_qkv_bias"),
        parallel=Flag("use_parallel_residual"),
        shared_norm=Flag("use_parallel_residual"),
        required={"qk_layernorm": False},
        **LAYER_NORM,
    ),
    "Starcoder2ForCausalLM": row(
        "starcoder2",
        "Starcoder2Model",
        "StarCoder2",
        STARCODER2,
        norm="layer",
        norm_bias=True,
        norm_eps=Field("norm_epsilon"),
        gated_mlp=False,
        windows=windows,
        qkv_bias=Flag("use_bias"),
        out_bias=Flag("use_bias"),
        mlp_bias=Flag("use_bias"),
    ),
    "GlmForCausalLM": row("glm", "GlmModel", "GLM-4 9B", GLM, qkv_bias=Flag("attention_bias")),
    "Glm4ForCausalLM": row("glm4", "Glm4Model", "GLM-4 0414", GLM4, norm_outputs=True, qkv_bias=Flag("attention_bias")),
    "NemotronForCausalLM": row(
        "nemotron",
        "NemotronModel",
        "Nemotron, Minitron",
        LLAMA.but(UNGATED),
        norm="layer",
        norm_bias=True,
        norm_offset=1.0,
        norm_eps=Field("norm_eps"),
        gated_mlp=False,
        **ALL_BIASES,
    ),
    "ArceeForCausalLM": row("arcee", "ArceeModel", "AFM", LLAMA.but(UNGATED), gated_mlp=False, **ALL_BIASES),
    "SeedOssForCausalLM": row(
        "seed_oss",
        "SeedOssModel",
        "Seed-OSS",
        qkv_bias=Flag("attention_bias"),
        out_bias=Flag("attention_out_bias"),
        mlp_bias=Flag("mlp_bias"),
    ),
    "OPTForCausalLM": row(
        "opt",
        "OPTModel",
        "OPT (all but 350M)",
        OPT,
        hidden_size=_opt_hidden_size,
        intermediate_size=Field("ffn_dim"),
        activation=Field("activation_function"),
        norm="layer",
        norm_eps=1e-5,
        norm_weight=Flag("layer_norm_elementwise_affine"),
        norm_bias=Flag("layer_norm_elementwise_affine"),
        gated_mlp=False,
        learned_positions=True,
        rotated=nowhere,
        qkv_bias=Flag("enable_bias"),
        out_bias=Flag("enable_bias"),
        mlp_bias=Flag("enable_bias"),
        required={"do_layer_norm_before": True, "_remove_final_layer_norm": False},
        reads=("word_embed_proj_dim",),
        **GPT_HEADS,
    ),
    "FalconForCausalLM": row(
        "falcon",
        "FalconModel",
        "Falcon 7B, 40B, 180B, Falcon 2",
        FALCON,
        num_kv_heads=_falcon_kv_heads,
        head_dim=equal_heads,
        intermediate_size=lambda config: config.ffn_hidden_size or 4 * config.hidden_size,
        activation=Field("activation"),
        norm="layer",
        norm_bias=True,
        norm_eps=Field("layer_norm_epsilon"),
        gated_mlp=False,
        parallel=lambda config: bool(config.new_decoder_architecture or config.parallel_attn),
        shared_norm=_falcon_shares_norm,
        qkv_bias=Flag("bias"),
        out_bias=Flag("bias"),
        mlp_bias=Flag("bias"),
        required={"alibi": False},
        reads=("new_decoder_architecture", "multi_query", "parallel_attn", "num_ln_in_parallel_attn"),
    ),
    "GPT2LMHeadModel": row(
        "gpt2",
        "GPT2Model",
        "GPT-2 (all sizes), GPT-3 geometry",
        GPT2,
        intermediate_size=lambda config: config.n_inner or 4 * config.hidden_size,
        activation=Field("activation_function"),
        norm="layer",
        norm_bias=True,
        norm_eps=Field("layer_norm_epsilon"),
        gated_mlp=False,
        learned_positions=True,
        rotated=nowhere,
        scales=_gpt2_scales,
        reads=("scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
        **BIASED,
        **GPT_HEADS,
    ),
    **MIXTURES,
}
