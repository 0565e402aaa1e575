"""The benchmark's models as sizes: bytes, operations and config.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A decoder of the Llama-like family; Qwen3 is one with norms of queries and keys. Sizes are numbers of elements."""

    name: str
    family: Literal["qwen3", "llama"]
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool
    rope_theta: float

    @property
    def group(self) -> int:
        """Query heads for each kv head."""
        return self.heads // self.kv_heads

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of the products of a layer, and of the head."""
        width = self.heads * self.head_dim
        return {
            "qkv": (width + 2 * self.kv_heads * self.head_dim, self.hidden),
            "out": (self.hidden, width),
            "up": (2 * self.ffn, self.hidden),
            "down": (self.hidden, self.ffn),
            "head": (self.vocab, self.hidden),
        }

    @property
    def layer_weights(self) -> int:
        """Weights of the four products of a layer."""
        return sum(outputs * inputs for name, (outputs, inputs) in self.linears.items() if name != "head")

    @property
    def weights_read(self) -> int:
        """Weights that every iteration reads: all but an untied embedding."""
        norms = self.hidden * (2 * self.layers + 1) + (2 * self.layers * self.head_dim if self.family == "qwen3" else 0)
        return self.layers * self.layer_weights + norms + self.vocab * self.hidden

    @property
    def kv_numbers(self) -> int:
        """Numbers that are the keys and values of one token, in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def flops(self, tokens: int, pairs: int, samples: int) -> int:
        """Floating-point operations of an iteration.

        Two for each weight and token, four for each pair of tokens and each number of a query.
        """
        products = 2 * tokens * self.layers * self.layer_weights + 2 * samples * self.vocab * self.hidden
        return products + 4 * pairs * self.layers * self.heads * self.head_dim

    def config(self, positions: int, dtype: str) -> dict[str, Any]:
        """What transformers calls a config, for sequences of so many tokens."""
        kind = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}[self.family]
        return {
            "architectures": [kind],
            "model_type": self.family,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.ffn,
            "vocab_size": self.vocab,
            "max_position_embeddings": positions,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "tie_word_embeddings": self.tied,
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
            "dtype": dtype,
        }

    def write(self, folder: Path, positions: int, dtype: str) -> Path:
        """Write a folder with the config alone, and return it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config(positions, dtype), indent=1), encoding="utf-8")
        return folder


QWEN = Geometry(  # Qwen/Qwen3-0.6B, config.json
    name="Qwen3-0.6B",
    family="qwen3",
    layers=28,
    hidden=1024,
    heads=16,
    kv_heads=8,
    head_dim=128,
    ffn=3072,
    vocab=151_936,
    tied=True,
    rope_theta=1e6,
)
LLAMA = Geometry(  # meta-llama/Meta-Llama-3-8B, config.json
    name="Llama-3-8B",
    family="llama",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    ffn=14_336,
    vocab=128_256,
    tied=False,
    rope_theta=5e5,
)
TOY_QWEN = Geometry(
    name="toy-qwen",
    family="qwen3",
    layers=2,
    hidden=64,
    heads=4,
    kv_heads=2,
    head_dim=16,
    ffn=128,
    vocab=512,
    tied=True,
    rope_theta=1e6,
)
TOY_LLAMA = Geometry(
    name="toy-llama",
    family="llama",
    layers=2,
    hidden=64,
    heads=4,
    kv_heads=1,
    head_dim=16,
    ffn=96,
    vocab=300,
    tied=False,
    rope_theta=5e5,
)
