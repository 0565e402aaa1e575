"""Norm, rotation and the write of keys and values, against the decoder's own steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from orcinus.errors import ConfigError
from orcinus.runtime.attention.port import rotate
from orcinus.runtime.kernels.rope_kv import rope_and_write
from orcinus.runtime.kv_cache import LayerKV, allocate

CPU, EPS = torch.device("cpu"), 1e-5
Norms = tuple[Tensor, Tensor, float]


def memory(kv_heads: int, block_size: int, dim: int, dtype: torch.dtype = torch.float32) -> LayerKV:
    """One layer of two, so that a block does not follow its neighbour at once."""
    kv = allocate(2, 6, kv_heads, block_size, dim, dtype, CPU)[1]
    kv.keys.normal_()
    kv.values.normal_()
    return kv


def expected(
    qkv: Tensor, angles: tuple[Tensor, Tensor] | None, slots: tuple[Tensor, Tensor], kv: LayerKV, norms: Norms | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values in float64, by torch."""
    _, kv_heads, _, dim = kv.keys.shape
    keys, values = kv.keys.double(), kv.values.double()
    heads = qkv.shape[1] // dim - 2 * kv_heads
    q, k, v = qkv.double().view(len(qkv), -1, dim).split((heads, kv_heads, kv_heads), dim=1)
    if norms:
        q, k = (F.rms_norm(x, (dim,), weight.double(), EPS) for x, weight in zip((q, k), norms[:2], strict=True))
    if angles:
        rotary = 2 * angles[0].shape[1]
        cos, sin = (part.double() for part in angles)
        q, k = (torch.cat((rotate(x[..., :rotary], cos, sin), x[..., rotary:]), dim=-1) for x in (q, k))
    for row, (block, offset) in enumerate(zip(*slots, strict=True)):
        if block >= 0:
            keys[block, :, offset], values[block, :, offset] = k[row], v[row]
    return q, keys, values


def compare(heads: int, kv_heads: int, dim: int, rotary: int, normed: bool, dtype: torch.dtype) -> float:
    """The largest relative error of queries, keys and values."""
    torch.manual_seed(dim + rotary)
    qkv = torch.randn(5, (heads + 2 * kv_heads) * dim).to(dtype)
    angle = torch.randn(5, rotary // 2)
    angles = (angle.cos() * 1.2, angle.sin() * 1.2) if rotary else None
    slots = torch.tensor([3, -1, 0, 5, 3]), torch.tensor([1, 0, 3, 2, 2])
    norms = (torch.randn(dim).to(dtype), torch.randn(dim).to(dtype), EPS) if normed else None
    kv = memory(kv_heads, 4, dim, dtype)
    wanted = expected(qkv, angles, slots, kv, norms)
    q = rope_and_write(qkv, angles, slots, kv.keys, kv.values, norms)
    assert q.shape == (5, heads, dim)
    assert q.is_contiguous()
    return max(
        float((a.double() - b).norm() / b.norm()) for a, b in zip((q, kv.keys, kv.values), wanted, strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "rotary"),
    [(4, 2, 64, 64), (1, 1, 2, 2), (3, 1, 80, 80), (9, 3, 16, 16), (4, 1, 96, 32), (2, 2, 20, 0), (7, 7, 10, 4)],
)
def test_equals_the_decoders_steps(heads: int, kv_heads: int, dim: int, rotary: int, normed: bool) -> None:
    assert compare(heads, kv_heads, dim, rotary, normed, torch.float32) < 1e-6


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 5e-3), (torch.float16, 1e-3)])
def test_narrow_dtypes_are_rounded_once(dtype: torch.dtype, bound: float) -> None:
    assert compare(4, 2, 64, 64, True, dtype) < bound


def test_keys_and_values_are_nowhere_else() -> None:
    """Whatever stood in other slots, and what padding would have written, is as it was."""
    kv = memory(2, 4, 16)
    before = kv.keys.clone()
    qkv = torch.randn(2, 5 * 16)
    rope_and_write(qkv, None, (torch.tensor([2, -1]), torch.tensor([3, 0])), kv.keys, kv.values)
    changed = (kv.keys != before).flatten(2).any(-1)
    assert changed.nonzero().tolist() == [[2, 0], [2, 1]]
    assert torch.equal(kv.keys[2, :, 3].flatten(), qkv[0, 16:48])
    assert torch.equal(kv.values[2, :, 3].flatten(), qkv[0, 48:])


def test_shapes_that_do_not_go_together_are_refused() -> None:
    kv, slots = memory(2, 4, 16), (torch.tensor([0]), torch.tensor([0]))
    for columns in (4 * 16, 5 * 16 + 1):
        with pytest.raises(ConfigError):
            rope_and_write(torch.zeros(1, columns), None, slots, kv.keys, kv.values)
    with pytest.raises(ConfigError, match="18 rotated"):
        rope_and_write(torch.zeros(1, 5 * 16), (torch.ones(1, 9), torch.ones(1, 9)), slots, kv.keys, kv.values)


def test_no_rows() -> None:
    kv, none = memory(2, 4, 16), torch.empty(0, dtype=torch.int64)
    assert rope_and_write(torch.empty(0, 80), None, (none, none), kv.keys, kv.values).shape == (0, 1, 16)
