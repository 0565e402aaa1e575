"""Head norms, rotation and the K/V write in one pass.

qkv row   q0 q1 … | k0 k1 … | v0 v1 …        a program takes one token and a few of these heads
             │         │         │
          norm, rotate: q and k only
             │         └────┬────┘
          q, contiguous   slot of the token in the K/V blocks (none for padding)
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.kernels.launch_configs import padded

HEADS = 8  # rows of a program: half a head of 128 is then 8 elements a thread of two warps, one load of 16 bytes in bfloat16


def rope_and_write(
    qkv: Tensor,
    angles: tuple[Tensor, Tensor] | None,
    slots: tuple[Tensor, Tensor],
    keys: Tensor,
    values: Tensor,
    norms: tuple[Tensor, Tensor, float] | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Returns queries `[T, heads, dim]`; writes keys and values to their slots.

    Queries are contiguous. `qkv` is contiguous `[T, (heads + 2 · kv_heads) · dim]`. `angles` are cosine and sine, each
    `[T, rotary_dim / 2]` of any float dtype (float32 is best), with the rope's scale already in them; None = no rotation. The
    pairs (i, i + rotary_dim / 2) of every head are rotated (RoFormer, as Llama pairs them); dimensions beyond rotary_dim pass
    unchanged. `slots` are block and offset of each token, `[T]` integers; a negative block = padding, for which nothing is
    written. `keys` and `values` are `[num_blocks, kv_heads, block_size, dim]`, each block contiguous. `norms` = weights of the
    queries' and the keys' RMSNorm `[dim]` and their eps (Qwen3). All is computed in float32 and rounded once. Raises
    `ConfigError` if the shapes do not fit.
    """
    num_rows, (_, kv_heads, block_size, dim) = len(qkv), keys.shape
    heads = qkv.shape[1] // dim - 2 * kv_heads
    half = 0 if angles is None else angles[0].shape[1]
    if heads < 1 or qkv.shape[1] % dim or 2 * half > dim:
        raise ConfigError(f"{qkv.shape[1]} columns are not heads of {dim} with {kv_heads} kv heads and {2 * half} rotated")
    out = torch.empty((num_rows, heads, dim), dtype=qkv.dtype, device=qkv.device) if out is None else out
    cos, sin = angles or (qkv, qkv)
    q_weight, k_weight, eps = norms or (qkv, qkv, 0.0)
    if num_rows:
        _rope_and_write[(num_rows, triton.cdiv(heads + 2 * kv_heads, HEADS))](
            qkv, cos, sin, *slots, q_weight, k_weight, out, keys, values, eps, keys.stride(0), values.stride(0),
            heads=heads, kv_heads=kv_heads, dim=dim, half=half, half_padded=padded(half, 1) if half else 0,
            rest_padded=padded(dim - 2 * half, 1) if dim > 2 * half else 0, block_size=block_size,
            normed=norms is not None, heads_at_once=HEADS, num_warps=2,
        )  # fmt: skip
    return out


@triton.jit
def _read(source, columns, size: tl.constexpr, there):
    """A part of every head `[heads, columns]`, in float32."""
    inside = there[:, None] & (columns < size)[None, :]
    return tl.load(source[:, None] + columns[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _gain(q_weight, k_weight, columns, size: tl.constexpr, in_q, in_v):
    """The norm weights of the heads `[heads, columns]`; 1 for values."""
    of_q = tl.load(q_weight + columns, mask=columns < size, other=0.0).to(tl.float32)
    of_k = tl.load(k_weight + columns, mask=columns < size, other=0.0).to(tl.float32)
    return tl.where(in_v[:, None], 1.0, tl.where(in_q[:, None], of_q[None, :], of_k[None, :]))


@triton.jit
def _write(part, columns, size: tl.constexpr, q_at, in_q, k_at, in_k, v_at, in_v):
    """Store every head of a part: queries, keys or values."""
    part = part.to(q_at.dtype.element_ty)
    inside = (columns < size)[None, :]
    tl.store(q_at[:, None] + columns[None, :], part, mask=in_q[:, None] & inside)
    tl.store(k_at[:, None] + columns[None, :], part, mask=in_k[:, None] & inside)
    tl.store(v_at[:, None] + columns[None, :], part, mask=in_v[:, None] & inside)


@triton.jit
def _rope_and_write(
    qkv, cos, sin, slot_blocks, slot_offsets, q_weight, k_weight, out, keys, values, eps, key_stride, value_stride,
    heads: tl.constexpr, kv_heads: tl.constexpr, dim: tl.constexpr, half: tl.constexpr, half_padded: tl.constexpr,
    rest_padded: tl.constexpr, block_size: tl.constexpr, normed: tl.constexpr, heads_at_once: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * heads_at_once + tl.arange(0, heads_at_once)
    there = head < heads + 2 * kv_heads
    in_q, in_v = head < heads, head >= heads + kv_heads
    source = qkv + row * ((heads + 2 * kv_heads) * dim) + head * dim

    square = tl.zeros([heads_at_once], tl.float32)
    if half > 0:
        pair = tl.arange(0, half_padded)
        first, second = _read(source, pair, half, there), _read(source + half, pair, half, there)
        square += tl.sum(first * first, 1) + tl.sum(second * second, 1)
    if rest_padded > 0:
        beyond = tl.arange(0, rest_padded)
        rest = _read(source + 2 * half, beyond, dim - 2 * half, there)
        square += tl.sum(rest * rest, 1)
    if normed:
        inverse = tl.where(in_v, 1.0, tl.rsqrt(square / dim + eps))[:, None]
        if half > 0:
            first *= inverse * _gain(q_weight, k_weight, pair, half, in_q, in_v)
            second *= inverse * _gain(q_weight + half, k_weight + half, pair, half, in_q, in_v)
        if rest_padded > 0:
            rest *= inverse * _gain(q_weight + 2 * half, k_weight + 2 * half, beyond, dim - 2 * half, in_q, in_v)

    block, offset = tl.load(slot_blocks + row).to(tl.int64), tl.load(slot_offsets + row)
    q_at = out + row * (heads * dim) + head * dim
    k_at = keys + block * key_stride + ((head - heads) * block_size + offset) * dim
    v_at = values + block * value_stride + ((head - heads - kv_heads) * block_size + offset) * dim
    in_k = (head >= heads) & (head < tl.where(block >= 0, heads + kv_heads, 0))
    kept = in_v & (head < tl.where(block >= 0, heads + 2 * kv_heads, 0))
    if half > 0:
        angle = row * half + pair
        c = tl.load(cos + angle, mask=pair < half, other=0.0).to(tl.float32)
        s = tl.load(sin + angle, mask=pair < half, other=0.0).to(tl.float32)
        c = tl.where(in_v[:, None], 1.0, c[None, :])
        s = tl.where(in_v[:, None], 0.0, s[None, :])
        _write(first * c - second * s, pair, half, q_at, in_q, k_at, in_k, v_at, kept)
        _write(second * c + first * s, pair, half, q_at + half, in_q, k_at + half, in_k, v_at + half, kept)
    if rest_padded > 0:
        _write(rest, beyond, dim - 2 * half, q_at + 2 * half, in_q, k_at + 2 * half, in_k, v_at + 2 * half, kept)
