"""Bytes that a model takes and reads, from its numbers alone."""

from __future__ import annotations

import torch

from orcinus.runtime.kv_cache import bytes_per_token
from orcinus.runtime.models import DecoderSpec

# Measured on CPUs (docs/log.md): the allocator and the libraries' own buffers add this to the tensors that the code names,
LIBRARIES = 1.75
# and compiled kernels and what every thread keeps take this much whatever the batch is.
FIXED = 64 * 2**20
SAMPLING = 48  # bytes per logit: float32, its softmax, its sorted copy, their ids, and cumulated probabilities in float64


def kv_token_bytes(spec: DecoderSpec, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values over all layers."""
    return bytes_per_token(spec.num_layers, spec.num_kv_heads, spec.head_dim, dtype)


def working_bytes(
    spec: DecoderSpec, dtype: torch.dtype, num_tokens: int, num_requests: int, model_len: int, fixed: int = FIXED
) -> int:
    """An estimate of what an iteration needs besides weights and K/V memory, at its peak.

    Most of it is the activations of one layer for all `num_tokens`, either inside attention (residual, its norm; query, key
    and value as projected, normalised and rotated, and the output) or inside the MLP (residual, its norm; gate and up, the
    activation, their product). A chunk of a prompt also gathers its context and makes a mask over it (where nothing is
    gathered, `model_len` is 0). At the end there are the logits of `num_requests`.
    """
    query, key = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    attention, mlp = 5 * query + 4 * key, (4 if spec.gated_mlp else 2) * spec.intermediate_size
    activations = num_tokens * (2 * spec.hidden_size + max(attention, mlp)) * dtype.itemsize
    context = 2 * 2 * model_len * key * dtype.itemsize  # keys and values, as they are gathered and in one piece
    return fixed + int(LIBRARIES * (activations + context)) + num_requests * spec.vocab_size * SAMPLING


def weight_bytes(spec: DecoderSpec, dtype: torch.dtype, num_parameters: int, *, packed: bool) -> int:
    """What the weights take. A tied embedding is there twice if they are packed: for look-ups, and for the output."""
    twice = spec.vocab_size * spec.hidden_size if packed and spec.tied else 0
    return (num_parameters + twice) * dtype.itemsize


def decode_weight_bytes(spec: DecoderSpec, dtype: torch.dtype, num_parameters: int) -> int:
    """What any iteration reads of the weights: all, but of embeddings only some rows unless they are the output matrix too."""
    embedding = 0 if spec.tied else spec.vocab_size * spec.hidden_size
    positions = 0 if spec.rope else spec.max_position_embeddings * spec.hidden_size
    return (num_parameters - embedding - positions) * dtype.itemsize


def decode_kv_bytes(spec: DecoderSpec, dtype: torch.dtype, context: int) -> int:
    """Keys and values that one decode reads with so many tokens behind it; a layer with a window reads no more than that."""
    seen = sum(min(context, window or context) for window in spec.windows)
    return seen * kv_token_bytes(spec, dtype) // spec.num_layers
