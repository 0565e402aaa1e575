"""Bytes of keys, values and iterations, estimated from a model's sizes."""

from __future__ import annotations

from typing import Protocol

# Measured on CPUs (docs/log.md): the allocator and the libraries' own buffers add this to the tensors that the code names,
LIBRARIES = 1.75
# and compiled kernels and each thread's buffers take this much for any batch.
FIXED = 64 * 2**20
RANK_PROCESS = 176 * 2**20  # taken by a process itself before it loads a part of a model: measured 168 MiB
SAMPLING = 48  # bytes per logit: float32, its softmax, its sorted copy, their ids, and cumulated probabilities in float64


SCALE = 4  # bytes of the scale of a head's key or value, where those are 8-bit integers


class MixtureSizes(Protocol):
    """Sizes of a mixture of experts, named as in `MixtureSpec`."""

    @property
    def num_experts(self) -> int: ...
    @property
    def per_token(self) -> int: ...


class DecoderSizes(Protocol):
    """Sizes on which a decoder's memory depends, named as in `DecoderSpec`."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def widest_mlp(self) -> int: ...
    @property
    def mixture(self) -> MixtureSizes | None: ...
    @property
    def gated_mlp(self) -> bool: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def num_kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def windows(self) -> tuple[int | None, ...]: ...


def kv_token_bytes(num_layers: int, num_kv_heads: int, head_dim: int, itemsize: int, kv_cache_dtype: str = "auto") -> int:
    """Bytes of one token's keys and values over all layers (Orca's "slot").

    `itemsize` is that of the model's dtype; `kv_cache_dtype` is int8, or anything else for that dtype.
    """
    head = head_dim + SCALE if kv_cache_dtype == "int8" else head_dim * itemsize
    return 2 * num_layers * num_kv_heads * head


def working_bytes(
    model: DecoderSizes, itemsize: int, num_tokens: int, num_requests: int, model_len: int, fixed: int = FIXED
) -> int:
    """Estimated peak bytes of an iteration besides weights and K/V memory.

    Most of it is the activations of one layer for all `num_tokens`, either inside attention (residual, its norm; query, key
    and value as projected, normalised and rotated, and the output) or inside the MLP (residual, its norm; gate and up, the
    activation, their product; all tokens may pass one expert of a mixture). Layers in one call on a CPU have room for both at
    once, which `LIBRARIES` covers. A chunk of a prompt also gathers its context and makes a mask over it (where nothing is
    gathered, `model_len` is 0). At the end there are the logits of `num_requests`.
    """
    query, key = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    attention, mlp = 5 * query + 4 * key, (4 if model.gated_mlp else 2) * model.widest_mlp
    activations = num_tokens * ((2 * model.hidden_size + max(attention, mlp)) * itemsize + _routing_bytes(model, itemsize))
    context = 2 * 2 * model_len * key * itemsize  # keys and values, gathered and in one piece
    return fixed + int(LIBRARIES * (activations + context)) + num_requests * model.vocab_size * SAMPLING


def _routing_bytes(model: DecoderSizes, itemsize: int) -> int:
    """Bytes that a mixture of experts adds for each token.

    They are scores, chosen experts with their weights and order, a copy of the token and the expert's output, and two sums in
    float32.
    """
    if model.mixture is None:
        return 0
    return model.mixture.num_experts * itemsize + 40 * model.mixture.per_token + 2 * model.hidden_size * (itemsize + 4)


def widest_product(model: DecoderSizes) -> tuple[int, int]:
    """The most inputs and the most outputs of a layer's products."""
    qkv = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    outputs = max(qkv, (2 if model.gated_mlp else 1) * model.widest_mlp)
    return max(model.hidden_size, model.widest_mlp), outputs


def decode_kv_bytes(model: DecoderSizes, itemsize: int, context: int, kv_cache_dtype: str = "auto") -> int:
    """Bytes of keys and values one decode reads at this length.

    A layer with a window reads no more than its window.
    """
    seen = sum(min(context, window or context) for window in model.windows)
    return seen * kv_token_bytes(1, model.num_kv_heads, model.head_dim, itemsize, kv_cache_dtype)
