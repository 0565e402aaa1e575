"""Random tiny checkpoints, made by transformers: one per architecture and per thing that architectures differ in."""

from __future__ import annotations

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

# Between them: rotation, windows, learned positions, biases, tied and untied heads. (There are few sizes of heads in all: for
# each, the kernel of the CPU is compiled for five seconds.)
MOST_DIFFERENT = ("llama3-rope-tied-odd-heads", "mistral-sliding-window", "gpt2")
OTHERS = tuple(name for name in CONFIGS if name not in MOST_DIFFERENT)


def make_model(name: str, seed: int = 0) -> Any:
    """A random model of one of `CONFIGS`."""
    return random_model(CONFIGS[name](), seed)


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
