"""RMSNorm (Zhang and Sennrich, 2019), alone or fused with the residual's sum."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.kernels.launch_configs import padded

MOST_SIZE = 65536  # a row must fit into one program's registers: 64 a thread of 32 warps


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None) -> Tensor:
    """x / √(mean x² + eps) · weight over the last dimension.

    Computed in float32. `x` is `[T, size]` and may be strided by rows; `out` (made if not given) is contiguous. Raises
    `ConfigError` for rows too long.
    """
    return _launch(x, None, weight, eps, out)


def add_rms_norm(x: Tensor, delta: Tensor, weight: Tensor, eps: float, out: Tensor | None = None) -> Tensor:
    """x += delta, in place; then `rms_norm` of the new x.

    The sum is rounded to x's dtype. `delta` is contiguous `[T, size]`.
    """
    return _launch(x, delta, weight, eps, out)


def _launch(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float, out: Tensor | None) -> Tensor:
    rows, size = x.shape
    if size > MOST_SIZE:
        raise ConfigError(f"rows of {size} elements are too long for this kernel: it takes {MOST_SIZE} at most")
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
    if rows:
        block = padded(size)
        warps = min(32, max(1, block // 512))  # 16 elements a thread: two loads of 16 bytes in bfloat16
        _rms_norm[(rows,)](
            x, x if delta is None else delta, weight, out, x.stride(0), eps,
            size=size, block=block, added=delta is not None, num_warps=warps,
        )  # fmt: skip
    return out


@triton.jit
def _rms_norm(x, delta, weight, out, x_stride, eps, size: tl.constexpr, block: tl.constexpr, added: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, block)
    inside = at < size
    value = tl.load(x + row * x_stride + at, mask=inside, other=0.0)
    if added:
        more = tl.load(delta + row * size + at, mask=inside, other=0.0)
        value = (value.to(tl.float32) + more.to(tl.float32)).to(value.dtype)
        tl.store(x + row * x_stride + at, value, mask=inside)
    wide = value.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(wide * wide, 0) / size + eps)
    gain = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * size + at, (wide * inverse * gain).to(out.dtype.element_ty), mask=inside)
