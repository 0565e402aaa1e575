"""The shape and switches of a decoder, known before its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Literal

from orcinus.errors import ModelError


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding.

    Angles are position · inverse_frequencies; cos and sin are multiplied by `scale`.
    """

    inverse_frequencies: tuple[float, ...]  # half the rotated dimensions, which are the first of each head
    scale: float = 1.0
    kind: str = "default"  # of scaling
    positions: int = 0  # positions after scaling; 0 = those of its config
    long_frequencies: tuple[float, ...] = ()  # LongRoPE (Ding et al., 2024): if requests may be longer than `short_positions`
    short_positions: int = 0

    def __post_init__(self) -> None:
        if not all(map(isfinite, (self.scale, *self.inverse_frequencies, *self.long_frequencies))):
            raise ModelError(f"the rotary embedding's {self.kind} scaling gives frequencies that are not finite")

    def for_length(self, max_model_len: int) -> Rope:
        """The embedding of an engine whose requests have at most this many tokens.

        Keys of one length serve requests of another, so one set of frequencies serves all requests (as in vLLM).
        """
        if not self.long_frequencies or max_model_len <= self.short_positions:
            return self
        return replace(self, inverse_frequencies=self.long_frequencies, long_frequencies=())


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureSpec:
    """A mixture of experts in the place of an MLP (Shazeer et al., 2017).

    A router scores all experts for each token; the token passes those with the highest scores, and the sum of their outputs is
    weighted by the scores' softmax. Raises `ModelError` if there can be no such mixture.
    """

    num_experts: int
    per_token: int  # experts that each token passes
    expert_size: int  # columns of each expert
    normalized: bool  # the weights of a token's experts sum to 1; else they are shares of the softmax over all experts
    shared_size: int = 0  # columns of an MLP that every token passes besides; 0 = there is none
    shared_gate: bool = False  # the output of that one is multiplied by a number from 0 to 1 (Qwen2-MoE)

    def __post_init__(self) -> None:
        if self.per_token > self.num_experts:
            raise ModelError(
                f"num_experts_per_tok must be at most the {self.num_experts} experts there are, not {self.per_token}"
            )

    def expected_experts(self, tokens: int) -> float:
        """Experts that at least one of so many tokens passes, if a router has no preference."""
        return self.num_experts * (1 - (1 - self.per_token / self.num_experts) ** tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """One decoder-only transformer, as numbers and switches.

    Raises `ModelError` if there can be no such decoder.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int  # columns of the MLPs of layers without experts
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
    tied: bool  # the output matrix is the embedding
    scales: tuple[float, ...]  # per layer: factor of the scores
    windows: tuple[int | None, ...]  # per layer: how many tokens back a token sees
    rotary: tuple[int | None, ...]  # per layer: which of `ropes` rotates queries and keys; None = no rotation
    ropes: tuple[Rope, ...] = ()
    learned_positions: bool = False  # a table of positions is added to the embedding
    head_bias: bool = False
    norm_weight: bool = True
    norm_bias: bool = False
    norm_offset: float = 0.0  # checkpoints hold norm weights less this (Gemma: x · (1 + w))
    norm_inputs: bool = True  # normalise what attention and MLP read: x + f(norm x)
    norm_outputs: bool = False  # normalise what they add: x + norm f(x); with both it is Gemma 2's sandwich
    parallel: bool = False  # attention and MLP read the same residual stream: x + f(norm x) + g(norm x) (GPT-J)
    shared_norm: bool = False  # in parallel, they read the same norm of it
    qk_norm: Literal["head", "all"] | None = None  # RMSNorm of each head's query and key (Qwen3), or of all heads' (OLMo 2)
    clip_qkv: float | None = None  # bound of projected queries, keys and values (OLMo)
    soft_cap: float | None = None  # of attention's scores: c · tanh(score / c) (Gemma 2)
    logit_soft_cap: float | None = None
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0  # of what attention and MLP add (Granite)
    logit_multiplier: float = 1.0
    mixture: MixtureSpec | None = None
    sparse: tuple[bool, ...] = ()  # per layer: whether it has the mixture instead of an MLP; () = none has

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.shared_norm and not self.parallel:
            raise ModelError("attention and MLP can share a norm only if they run in parallel")
        if self.head_dim < 1:
            raise ModelError(f"{self.num_heads} heads cannot share {self.hidden_size} dimensions")
        if not len(self.scales) == len(self.windows) == len(self.rotary):
            raise ModelError(f"there are {len(self.scales)} layers, but lists with an entry per layer have another length")
        if self.sparse and (len(self.sparse) != len(self.windows) or self.mixture is None):
            raise ModelError(f"there are {len(self.windows)} layers, but the list of those with experts has another length")
        if isinstance(self.norm_eps, bool) or not 0 <= self.norm_eps <= 1:
            raise ModelError(f"the epsilon of norms must be between 0 and 1, not {self.norm_eps!r}")

    def _check_numbers(self) -> None:
        for name in ("clip_qkv", "soft_cap", "logit_soft_cap"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value > 0):
                raise ModelError(f"{name} of the model must be a number above 0, not {value!r}")
        for name in ("embedding_multiplier", "residual_multiplier", "logit_multiplier"):
            if not _is_number(getattr(self, name)):
                raise ModelError(f"{name} of the model must be a finite number, not {getattr(self, name)!r}")
        if not all(map(_is_number, self.scales)):
            raise ModelError(f"the scale of attention's scores must be a finite number, not {self.scales[0]!r}")

    def to_json(self) -> bytes:
        """As bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> DecoderSpec:
        """`to_json`, inverted."""
        found = json.loads(data, object_hook=_with_tuples)
        mixture = None if found["mixture"] is None else MixtureSpec(**found["mixture"])
        return cls(**found | {"ropes": tuple(Rope(**rope) for rope in found["ropes"]), "mixture": mixture})

    def for_length(self, max_model_len: int) -> DecoderSpec:
        """The spec of an engine whose requests have at most this many tokens: LongRoPE depends on it."""
        return replace(self, ropes=tuple(rope.for_length(max_model_len) for rope in self.ropes))

    @property
    def longest_request(self) -> int:
        """The most tokens of a request, rope scaling included."""
        return max(self.max_position_embeddings, *(rope.positions for rope in self.ropes), 0)

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

    def mixture_of(self, layer: int) -> MixtureSpec | None:
        """The mixture of experts of a layer; None if it has an MLP."""
        return self.mixture if self.sparse and self.sparse[layer] else None

    @property
    def num_experts(self) -> int:
        """Experts of a layer that has a mixture; 0 = no layer has one."""
        return self.mixture.num_experts if self.mixture and any(self.sparse) else 0

    @property
    def widest_mlp(self) -> int:
        """Columns of the widest MLP that a token passes."""
        mixtures = [self.mixture_of(layer) for layer in range(self.num_layers)]
        return max(max(mix.expert_size, mix.shared_size) if mix else self.intermediate_size for mix in mixtures)

    @property
    def qkv_sizes(self) -> tuple[int, int, int]:
        """Rows of the query, key and value parts of the fused projection."""
        return (self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim, self.num_kv_heads * self.head_dim)


def _with_tuples(found: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
