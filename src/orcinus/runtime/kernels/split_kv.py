"""Split K/V (flash-decoding): shares of one context in parallel, then a merge.

A decode of one request over eight kv heads would be eight programs on 132 multiprocessors. So its context is cut into
shares, each program leaves the weighted mean of its share and the logarithm of the share's weight, and a second kernel
takes the mean of the means (Dao et al., "Flash-Decoding for long-context inference", 2023).
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from orcinus.runtime.kernels.launch_configs import padded

LEAST_SHARE = 256  # tokens: below this, starting a program and merging its result cost more than reading them
MOST_SHARES = 128
AT_ONCE = 16  # shares added up at a time, even if there are fewer: 16 × 128 float32 = 16 registers a thread of 128


@dataclass(frozen=True, slots=True)
class Partials:
    """Partial results of the shares; all layers use one of these."""

    outs: Tensor  # [shares, T, heads, dim] float32: mean of the share's values, weighted by its own softmax
    logs: Tensor  # [shares, T, heads] float32: base-2 logarithm of the sum of weights; -inf of an empty share

    @classmethod
    def empty(cls, shares: int, num_rows: int, heads: int, dim: int, device: torch.device) -> Partials:
        """Memory for the partial results of these shares and rows."""
        outs = torch.empty((shares, num_rows, heads, dim), dtype=torch.float32, device=device)
        return cls(outs, torch.empty((shares, num_rows, heads), dtype=torch.float32, device=device))


def choose_shares(programs: int, most_context: int, device: torch.device) -> int:
    """The most shares of a context: two programs for each multiprocessor.

    It depends on numbers that the host knows before it launches; a sequence shorter than `most_context` uses fewer shares, so
    `most_context` may be the longest that a captured graph will ever meet.
    """
    wanted = -(-2 * multiprocessors(device) // max(1, programs))
    return max(1, min(wanted, most_context // LEAST_SHARE, MOST_SHARES))


@cache
def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of the device; an H100's if it cannot be asked."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def merge(partials: Partials, shares: int, firsts: Tensor, out: Tensor) -> None:
    """Merge the first `shares` shares into `out` `[T, heads, dim]`, contiguous.

    `firsts` `[R + 1]` as in `PagedBatch`: rows beyond its last are left as they are.
    """
    num_rows, heads, dim = out.shape
    _merge[(num_rows * heads,)](
        partials.outs, partials.logs, firsts, out, num_rows * heads, len(firsts) - 1, shares,
        heads=heads, dim=dim, dim_padded=padded(dim), at_once=AT_ONCE, num_warps=4,
    )  # fmt: skip


@triton.jit(do_not_specialize=["rows", "requests", "shares"])
def _merge(
    outs, logs, firsts, out, rows, requests, shares,
    heads: tl.constexpr, dim: tl.constexpr, dim_padded: tl.constexpr, at_once: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    if row >= (tl.load(firsts + requests) - tl.load(firsts)) * heads:
        return
    dims = tl.arange(0, dim_padded)
    peak = float("-inf")
    total = 0.0
    acc = tl.zeros([dim_padded], tl.float32)
    for begin in range(0, shares, at_once):
        share = begin + tl.arange(0, at_once)
        log = tl.load(logs + share.to(tl.int64) * rows + row, mask=share < shares, other=float("-inf"))
        highest = tl.maximum(peak, tl.max(log, 0))
        reference = tl.where(highest > float("-inf"), highest, 0.0)  # -inf - -inf would be NaN
        weight = tl.exp2(log - reference)
        # an empty share wrote nothing to `outs`: it must not be read
        wanted = (weight > 0)[:, None] & (dims < dim)[None, :]
        part = tl.load(outs + (share.to(tl.int64) * rows + row)[:, None] * dim + dims[None, :], mask=wanted, other=0.0)
        shrink = tl.exp2(peak - reference)
        acc = acc * shrink + tl.sum(part * weight[:, None], 0)
        total = total * shrink + tl.sum(weight, 0)
        peak = highest
    tl.store(out + row * dim + dims, (acc / total).to(out.dtype.element_ty), mask=dims < dim)
