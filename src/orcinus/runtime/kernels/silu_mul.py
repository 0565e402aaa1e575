"""act(gate) · up of a gated MLP (SwiGLU, GeGLU: Shazeer, 2020)."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orcinus.errors import ConfigError

BLOCK = 1024  # elements a program: 8 a thread of four warps, one load of 16 bytes in bfloat16
GATES = {"silu": "silu", "swish": "silu", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu"}  # named as in the models' configs


def act_mul(x: Tensor, act: str = "silu", out: Tensor | None = None) -> Tensor:
    """act(gate) · up `[T, I]` of gate and up side by side.

    The input is `[T, 2I]`. Both are contiguous; computed in float32. `act` is one of `GATES`: silu, or gelu in its tanh form.
    Raises `ConfigError` for another.
    """
    if act not in GATES:
        raise ConfigError(f"activation {act!r} has no kernel: take torch's, or one of {', '.join(GATES)}")
    rows, size = x.shape[0], x.shape[1] // 2
    out = torch.empty((rows, size), dtype=x.dtype, device=x.device) if out is None else out
    if rows and size:
        _act_mul[(rows, triton.cdiv(size, BLOCK))](x, out, size, gelu=GATES[act] == "gelu", block=BLOCK, num_warps=4)
    return out


@triton.jit
def _act_mul(x, out, size, gelu: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < size
    gate = tl.load(x + row * 2 * size + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * size + size + at, mask=inside, other=0.0).to(tl.float32)
    # gelu: ½·x·(1 + tanh y) = x·sigmoid(2y)
    inner = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate) if gelu else gate
    active = gate / (1 + tl.exp(-inner))
    tl.store(out + row * size + at, (active * up).to(out.dtype.element_ty), mask=inside)
