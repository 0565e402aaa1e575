"""What there is to know about a decoder before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: angles are position · inverse_frequencies; cos and sin are multiplied by `scale`."""

    inverse_frequencies: tuple[float, ...]  # half as many as the head has dimensions
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """One decoder-only transformer, as numbers and switches."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    norm: Literal["rms", "layer"]
    norm_eps: float
    activation: str
    gated_mlp: bool  # act(gate) · up, or plain act(up)
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool  # RMS-normalise every head's query and key
    tied: bool  # the output matrix is the embedding
    rope: Rope | None  # None = learned positions
    scales: tuple[float, ...]  # per layer: what scores are multiplied by
    windows: tuple[int | None, ...]  # per layer: how many tokens back a token sees
    rotary: tuple[bool, ...]  # per layer: whether positions are rotated in

    @property
    def num_layers(self) -> int:
        return len(self.windows)

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Rows of the query, key and value parts of the fused projection."""
        return (self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim, self.num_kv_heads * self.head_dim)
