"""The shape and switches of a decoder, known before its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from orcinus.errors import ModelError


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding.

    Angles are position · inverse_frequencies; cos and sin are multiplied by `scale`.
    """

    inverse_frequencies: tuple[float, ...]  # half the head's dimensions
    scale: float = 1.0
    kind: str = "default"  # of scaling
    positions: int = 0  # positions after scaling; 0 = those of its config

    def __post_init__(self) -> None:
        if not all(map(isfinite, (self.scale, *self.inverse_frequencies))):
            raise ModelError(f"the rotary embedding's {self.kind} scaling gives frequencies that are not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """One decoder-only transformer, as numbers and switches.

    Raises `ModelError` if there can be no such decoder.
    """

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
    scales: tuple[float, ...]  # per layer: factor of the scores
    windows: tuple[int | None, ...]  # per layer: how many tokens back a token sees
    rotary: tuple[bool, ...]  # per layer: whether positions are rotated in
    soft_cap: float | None = None  # of attention's scores: c · tanh(score / c) (Gemma 2)

    def __post_init__(self) -> None:
        if self.head_dim < 1:
            raise ModelError(f"{self.num_heads} heads cannot share {self.hidden_size} dimensions")
        if not len(self.scales) == len(self.windows) == len(self.rotary):
            raise ModelError(f"there are {len(self.scales)} layers, but lists with an entry per layer have another length")
        if isinstance(self.norm_eps, bool) or not 0 <= self.norm_eps <= 1:
            raise ModelError(f"the epsilon of norms must be between 0 and 1, not {self.norm_eps!r}")

    def to_json(self) -> bytes:
        """As bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> DecoderSpec:
        """`to_json`, inverted."""
        found = json.loads(data, object_hook=_with_tuples)
        return cls(**found | {"rope": found["rope"] and Rope(**found["rope"])})

    @property
    def longest_request(self) -> int:
        """The most tokens of a request, rope scaling included."""
        return max(self.max_position_embeddings, self.rope.positions if self.rope else 0)

    @property
    def kv_groups(self) -> tuple[int, ...]:
        """Per layer: the group whose block table it uses.

        One table serves all layers of today's models.
        """
        return (0,) * self.num_layers

    @property
    def num_kv_groups(self) -> int:
        """Block tables of a request."""
        return max(self.kv_groups, default=0) + 1

    @property
    def num_layers(self) -> int:
        return len(self.windows)

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Rows of the query, key and value parts of the fused projection."""
        return (self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim, self.num_kv_heads * self.head_dim)


def _with_tuples(found: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
