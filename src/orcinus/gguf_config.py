"""A GGUF file's metadata as a config.json says it: one row for each architecture of llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orcinus.errors import ModelError, shown
from orcinus.gguf_file import GgufFile

FIELDS = {  # of a config, by the key that follows the architecture's name
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
BIASES = {"attention_bias": "attn_q.bias", "mlp_bias": "ffn_up.bias"}  # fields that are true if layers have these tensors
THETA = 10000.0  # llama.cpp's default
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
SCALINGS = ("linear", "yarn")  # of rotary frequencies; Llama 3's are stored as numbers
YARN = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow", "yarn_attn_factor": "attention_factor"}


@dataclass(frozen=True, slots=True)
class GgufArchitecture:
    """How llama.cpp's files hold an architecture."""

    name: str  # in a config.json
    fields: Mapping[str, str] = field(default_factory=lambda: FIELDS)
    flags: Mapping[str, str] = field(default_factory=lambda: BIASES)
    rope: bool = True  # rotary positions, not learned ones
    paired: bool = False  # rows of queries and keys that rotate together are neighbours, as in Llama's own code


ARCHITECTURES = {
    "llama": GgufArchitecture("LlamaForCausalLM", paired=True),
    "qwen2": GgufArchitecture("Qwen2ForCausalLM"),
    "qwen3": GgufArchitecture("Qwen3ForCausalLM"),
    "smollm3": GgufArchitecture("SmolLM3ForCausalLM", paired=True),
    "gpt2": GgufArchitecture(
        "GPT2LMHeadModel",
        fields={
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        flags={},
        rope=False,
    ),
}


def gguf_architecture(file: GgufFile) -> GgufArchitecture:
    """The row of a file's architecture. Raises `ModelError` if there is none."""
    row = ARCHITECTURES.get(file.architecture)
    if row is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(
            f"{file.path} holds a model of architecture {shown(file.architecture)}: known in GGUF files are {known}"
        )
    return row


def gguf_config(file: GgufFile) -> dict[str, Any]:
    """The config of a file's model. Raises `ModelError` for metadata that cannot be meant."""
    row, prefix = gguf_architecture(file), file.architecture
    if file.get(f"{prefix}.expert_count", int, 0):
        raise ModelError(f"{file.path} holds a mixture of experts, which is not supported")
    if EMBEDDING not in file.tensors or len(file.tensors[EMBEDDING].shape) != 2:
        raise ModelError(f"weights are missing in {file.path}: {EMBEDDING}")
    number = (int, float)
    found = {name: file.get(f"{prefix}.{key}", number) for key, name in row.fields.items()}
    missing = [f"{prefix}.{key}" for key in ("context_length", "embedding_length", "block_count", "attention.head_count")
               if found[row.fields[key]] is None]  # fmt: skip
    if missing:
        raise ModelError(f"{file.path} cannot be understood: it has no {', '.join(missing)}")
    config = {name: value for name, value in found.items() if value is not None}
    return {
        "architectures": [row.name],
        "vocab_size": file.tensors[EMBEDDING].shape[0],
        "tie_word_embeddings": HEAD not in file.tensors,
        **config,
        **{name: f"blk.0.{tensor}" in file.tensors for name, tensor in row.flags.items()},
        **({"rope_parameters": _rope(file, prefix)} if row.rope else {}),
    }


def _rope(file: GgufFile, prefix: str) -> dict[str, Any]:
    """The rotary embedding's settings, as transformers names them."""
    number = (int, float)
    settings: dict[str, Any] = {"rope_type": "default", "rope_theta": file.get(f"{prefix}.rope.freq_base", number, THETA)}
    rotated, head_dim = file.get(f"{prefix}.rope.dimension_count", int), _head_dim(file, prefix)
    if rotated is not None and head_dim and rotated != head_dim:
        settings["partial_rotary_factor"] = rotated / head_dim
    kind = file.get(f"{prefix}.rope.scaling.type", str, "none")
    if kind == "none":
        return settings
    if kind not in SCALINGS:
        raise ModelError(f"{file.path} cannot be served: rope scaling {shown(kind)} is not supported in GGUF files")
    settings["rope_type"] = kind
    factor, original = (file.get(f"{prefix}.rope.scaling.{name}", number) for name in ("factor", "original_context_length"))
    if factor is not None:
        settings["factor"] = factor
    if original is not None and kind != "linear":
        settings["original_max_position_embeddings"] = original
    if kind == "yarn":
        found = {ours: file.get(f"{prefix}.rope.scaling.{name}", number) for name, ours in YARN.items()}
        settings |= {name: value for name, value in found.items() if value is not None}
    return settings


def _head_dim(file: GgufFile, prefix: str) -> int:
    """Dimensions of a head: stated, or a head's share of the hidden size."""
    stated: int | None = file.get(f"{prefix}.attention.key_length", int)
    hidden, heads = (file.get(f"{prefix}.{name}", int, 0) for name in ("embedding_length", "attention.head_count"))
    return stated or (hidden // heads if heads > 0 else 0)
