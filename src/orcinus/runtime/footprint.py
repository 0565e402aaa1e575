"""Bytes that a model takes and reads, from its numbers alone."""

from __future__ import annotations

import torch

from orcinus.runtime.kv_cache import bytes_per_token
from orcinus.runtime.models import Decoder, DecoderSpec

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


def weight_bytes(model: Decoder, *, packed: bool) -> int:
    """What the weights take. A tied embedding is there twice if they are packed: for look-ups, and for the output."""
    twice = model.head.num_bytes if packed and model.spec.tied else 0
    return _plain_bytes(model) + sum(linear.num_bytes for linear in model.linears().values()) + twice


def decode_weight_bytes(model: Decoder) -> int:
    """Bytes of the weights any iteration reads: all but embeddings, of which it looks up a few rows."""
    looked_up = model.embed.weight.nbytes + (0 if model.positions is None else model.positions.weight.nbytes)
    linears = {id(linear): linear for linear in [*model.linears().values(), model.head]}
    return _plain_bytes(model) - looked_up + sum(linear.num_bytes for linear in linears.values())


def _plain_bytes(model: Decoder) -> int:
    """Embeddings and norms."""
    return sum(parameter.nbytes for parameter in model.parameters())


def decode_kv_bytes(spec: DecoderSpec, dtype: torch.dtype, context: int) -> int:
    """Keys and values that one decode reads with so many tokens behind it; a layer with a window reads no more than that."""
    seen = sum(min(context, window or context) for window in spec.windows)
    return seen * kv_token_bytes(spec, dtype) // spec.num_layers
