"""Random tiny checkpoints, made by transformers: one per architecture and per thing that architectures differ in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

BASE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
SHORT = {"original_max_position_embeddings": 32}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama2": lambda: hf.LlamaConfig(**BASE | {"num_key_value_heads": 6}),
    "llama3-rope-tied-odd-heads": lambda: hf.LlamaConfig(
        **BASE, head_dim=20, rope_parameters=LLAMA3 | SHORT, tie_word_embeddings=True
    ),
    "llama-biases-yarn": lambda: hf.LlamaConfig(**BASE, attention_bias=True, mlp_bias=True, rope_parameters=YARN | SHORT),
    "llama-linear-rope-one-kv-head": lambda: hf.LlamaConfig(
        **BASE | {"num_key_value_heads": 1}, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    ),
    "llama-dynamic-rope": lambda: hf.LlamaConfig(
        **BASE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    ),
    "mistral-sliding-window": lambda: hf.MistralConfig(**BASE, sliding_window=12, head_dim=20),
    "mistral-no-window": lambda: hf.MistralConfig(**BASE, sliding_window=None),
    "qwen2": lambda: hf.Qwen2Config(**BASE),
    "qwen2-window-on-some-layers": lambda: hf.Qwen2Config(
        **BASE, use_sliding_window=True, sliding_window=9, max_window_layers=1
    ),
    "qwen3": lambda: hf.Qwen3Config(**BASE, head_dim=20, tie_word_embeddings=True),
    "smollm3-some-layers-without-rope": lambda: hf.SmolLM3Config(**BASE, no_rope_layers=[1, 0, 1]),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=97,
        n_embd=48,
        n_layer=3,
        n_head=4,
        n_positions=128,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    ),
    "gpt2-scaled-by-layer-untied": lambda: hf.GPT2Config(
        vocab_size=97,
        n_embd=24,
        n_layer=2,
        n_head=2,
        n_inner=72,
        n_positions=128,
        initializer_range=0.3,
        scale_attn_by_inverse_layer_idx=True,
        activation_function="relu",
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    ),
}

# What other families do otherwise than these: a row a family, two where a family has two forms.
ALTERNATING = {"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
WIDE = BASE | {"hidden_size": 96}  # heads of 16, of which a quarter is 4 dimensions
ALIKE = {name: value for name, value in BASE.items() if name != "num_key_value_heads"}  # all heads have their own keys
FALCON = {name: value for name, value in ALIKE.items() if name != "intermediate_size"} | {"ffn_hidden_size": 80}
LONG_FACTORS = {"short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75, **LONG_FACTORS}
TWO_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}

IMAGES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGES |= {"image_size": 28, "patch_size": 14}
IMAGE_TOKENS = {"image_token_index": 96, "boi_token_index": 95, "eoi_token_index": 94}

MORE_CONFIGS: dict[str, Callable[[], Any]] = {
    "gemma": lambda: hf.GemmaConfig(**BASE, head_dim=20),
    "gemma2": lambda: hf.Gemma2Config(
        **BASE | ALTERNATING, head_dim=20, query_pre_attn_scalar=11, attn_logit_softcapping=3.0, final_logit_softcapping=5.0
    ),
    "gemma3": lambda: hf.Gemma3TextConfig(
        **BASE | ALTERNATING, head_dim=20, query_pre_attn_scalar=11, rope_parameters=TWO_ROPES, attn_logit_softcapping=3.0
    ),
    "gemma3-with-images": lambda: hf.Gemma3Config(
        text_config=MORE_CONFIGS["gemma3"]().to_dict(), vision_config=IMAGES, mm_tokens_per_image=4, **IMAGE_TOKENS
    ),
    "phi3": lambda: hf.Phi3Config(**BASE),
    "phi3-longrope-partial": lambda: hf.Phi3Config(
        **WIDE, sliding_window=11, original_max_position_embeddings=64, rope_parameters=LONG_ROPE
    ),
    "phi2": lambda: hf.PhiConfig(**BASE, partial_rotary_factor=0.5),
    "phi2-tied": lambda: hf.PhiConfig(**BASE, partial_rotary_factor=0.5, tie_word_embeddings=True),
    "gpt-neox": lambda: hf.GPTNeoXConfig(**ALIKE, rotary_pct=0.25),
    "gpt-neox-one-after-the-other": lambda: hf.GPTNeoXConfig(**ALIKE, rotary_pct=0.5, use_parallel_residual=False),
    "olmo": lambda: hf.OlmoConfig(**BASE, clip_qkv=0.7),
    "olmo2": lambda: hf.Olmo2Config(**BASE),
    "olmo3": lambda: hf.Olmo3Config(**BASE | ALTERNATING),
    "granite": lambda: hf.GraniteConfig(
        **BASE, attention_multiplier=0.3, embedding_multiplier=3.0, residual_multiplier=0.22, logits_scaling=4.0
    ),
    "cohere": lambda: hf.CohereConfig(**BASE, logit_scale=0.25),
    "cohere2": lambda: hf.Cohere2Config(**BASE | ALTERNATING),
    "stablelm": lambda: hf.StableLmConfig(**WIDE, use_qkv_bias=True),
    "stablelm-parallel": lambda: hf.StableLmConfig(**WIDE, use_parallel_residual=True),
    "starcoder2": lambda: hf.Starcoder2Config(**BASE, sliding_window=9),
    "glm": lambda: hf.GlmConfig(**BASE, head_dim=16),
    "glm4": lambda: hf.Glm4Config(**BASE, head_dim=16),
    "nemotron": lambda: hf.NemotronConfig(**BASE),
    "arcee": lambda: hf.ArceeConfig(**BASE),
    "ministral": lambda: hf.MinistralConfig(**BASE | ALTERNATING, head_dim=20),
    "seed-oss": lambda: hf.SeedOssConfig(**BASE, head_dim=20),
    "opt": lambda: hf.OPTConfig(
        **{name: BASE[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings")},
        num_attention_heads=6,
        ffn_dim=80,
        init_std=0.3,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    ),
    "falcon-7b": lambda: hf.FalconConfig(**FALCON),
    "falcon-40b": lambda: hf.FalconConfig(**FALCON, new_decoder_architecture=True, num_kv_heads=2, bias=True),
    "falcon-11b": lambda: hf.FalconConfig(**FALCON, new_decoder_architecture=True, num_kv_heads=3, num_ln_in_parallel_attn=1),
    "falcon-one-after-the-other": lambda: hf.FalconConfig(**FALCON, parallel_attn=False, multi_query=False, bias=True),
}

QWEN_EXPERTS = {"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
LOCAL_EXPERTS = {"num_local_experts": 5, "num_experts_per_tok": 2}
GRANITE = {"attention_multiplier": 0.3, "embedding_multiplier": 3.0, "residual_multiplier": 0.22, "logits_scaling": 4.0}
MIXTURE_CONFIGS: dict[str, Callable[[], Any]] = {
    "qwen2-moe": lambda: hf.Qwen2MoeConfig(
        **BASE, **QWEN_EXPERTS, shared_expert_intermediate_size=40, mlp_only_layers=[1], norm_topk_prob=False
    ),
    "qwen2-moe-windows-every-second-layer": lambda: hf.Qwen2MoeConfig(
        **BASE,
        **QWEN_EXPERTS,
        shared_expert_intermediate_size=40,
        decoder_sparse_step=2,
        use_sliding_window=True,
        sliding_window=9,
        max_window_layers=3,
    ),
    "qwen3-moe": lambda: hf.Qwen3MoeConfig(**BASE, **QWEN_EXPERTS, head_dim=20, norm_topk_prob=True),
    "mixtral": lambda: hf.MixtralConfig(**BASE | {"intermediate_size": 40}, **LOCAL_EXPERTS, sliding_window=9),
    "olmoe": lambda: hf.OlmoeConfig(
        **BASE | {"intermediate_size": 24}, num_experts=6, num_experts_per_tok=3, clip_qkv=0.7, norm_topk_prob=False
    ),
    "granite-moe": lambda: hf.GraniteMoeConfig(**BASE | {"intermediate_size": 24}, **LOCAL_EXPERTS, **GRANITE),
    "granite-moe-shared": lambda: hf.GraniteMoeSharedConfig(
        **BASE | {"intermediate_size": 24}, **LOCAL_EXPERTS, **GRANITE, shared_intermediate_size=36
    ),
}
# Between them: soft caps, sandwich and output norms, 1 + w, norms of all heads, parallel layers, fused and paired rows,
# parts of heads rotated, layers without rotation.
MECHANISMS = ("gemma2", "gpt-neox", "olmo2", "cohere2")
REST = tuple(name for name in MORE_CONFIGS if name not in MECHANISMS)
# With a gated shared expert, dense layers among sparse ones, and weights that are not normalised.
MIXED = "qwen2-moe"
MIXTURES = tuple(name for name in MIXTURE_CONFIGS if name != MIXED)

# Between them: rotation, windows, learned positions, biases, tied and untied heads.
MOST_DIFFERENT = ("llama3-rope-tied-odd-heads", "mistral-sliding-window", "gpt2")
OTHERS = tuple(name for name in CONFIGS if name not in MOST_DIFFERENT)


def make_model(name: str, seed: int = 0) -> Any:
    """A random model of one of `CONFIGS`, `MORE_CONFIGS` or `MIXTURE_CONFIGS`."""
    return random_model((CONFIGS | MORE_CONFIGS | MIXTURE_CONFIGS)[name](), seed)


def random_model(config: Any, seed: int = 0) -> Any:
    """A random model in float32 whose biases and norms are random too, so that none of them can be forgotten unnoticed."""
    torch.manual_seed(seed)
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=0.7, std=0.3)
    return model


def save(model: Any, folder: Path, **options: Any) -> Path:
    """The model as a checkpoint folder."""
    model.save_pretrained(folder, **options)
    return folder


def edited(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy of a checkpoint, with other fields in its config."""
    made = Path(shutil.copytree(folder, target))
    config = json.loads((made / "config.json").read_text()) | changes
    (made / "config.json").write_text(json.dumps(config))
    return made
