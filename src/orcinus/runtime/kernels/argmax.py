"""The likeliest token of every row, in two stages for large vocabularies.

The first stage, the survey, is the first of random sampling too: it also says how much probability is where.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from orcinus.runtime.kernels.launch_configs import padded

PIECE = 4096  # logits a program reads: 16 a thread of eight warps; 151,936 logits are 38 programs a row


@dataclass(frozen=True, slots=True)
class Survey:
    """Maximum and mass of each piece of each row, `[S, pieces]`."""

    peaks: Tensor  # float32: the largest logit; NaN if any is NaN
    places: Tensor  # int32: the first token that has it
    masses: Tensor  # float64: sum of exp((logit - peak of the piece) / temperature)


def argmax(logits: Tensor, out: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """The likeliest token of each row, and its logit.

    `logits` are `[S, vocab]`, strided by rows and of any float dtype. Tokens are int64 (the lowest of equals), logits float32,
    each `[S]`. A peak of NaN or +inf means a damaged row, a peak of -inf that every token is forbidden; the token is then
    meaningless.
    """
    tokens, peaks = out or chosen(logits)
    if len(logits):
        seen = survey(logits, None)
        pieces = seen.peaks.shape[1]
        _best[(len(logits),)](seen.peaks, seen.places, tokens, peaks, pieces, block=padded(pieces, 1), num_warps=1)
    return tokens, peaks


def chosen(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Memory for one token (int64) and its peak (float32) a row."""
    rows, device = len(logits), logits.device
    return torch.empty(rows, dtype=torch.int64, device=device), torch.empty(rows, dtype=torch.float32, device=device)


def survey(logits: Tensor, temperature: Tensor | None) -> Survey:
    """Stage one: each piece's maximum, and its mass if `temperature` is given.

    `temperature` is `[S]` float32, where 0 stands for greedy.
    """
    rows, size = logits.shape
    shape, device = (rows, triton.cdiv(size, PIECE)), logits.device
    seen = Survey(*(torch.empty(shape, dtype=dtype, device=device) for dtype in (torch.float32, torch.int32, torch.float64)))
    _survey[shape](
        logits, logits if temperature is None else temperature, seen.peaks, seen.places, seen.masses, logits.stride(0), size,
        weighed=temperature is not None, block=min(PIECE, padded(size)), num_warps=8,
    )  # fmt: skip
    return seen


@triton.jit
def peak_of(x, at):
    """The maximum of a vector and its lowest index.

    NaN if any element is NaN.
    """
    damaged = tl.sum((x != x).to(tl.int32), 0) > 0
    x = tl.where(x != x, float("-inf"), x)
    peak = tl.max(x, 0)
    place = tl.min(tl.where(x == peak, at, 2147483647), 0)
    return tl.where(damaged, float("nan"), peak), tl.where(damaged, 0, place)


@triton.jit
def weight_of(x, peak, temperature):
    """exp((x - peak) / temperature), with an exact division.

    Exact division keeps equal logits equal, and preserves order.
    """
    return tl.exp(tl.fdiv(x - peak, temperature, ieee_rounding=True))


@triton.jit
def _survey(logits, temperatures, peaks, places, masses, stride, size, weighed: tl.constexpr, block: tl.constexpr):
    row, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = piece * block + tl.arange(0, block)
    x = tl.load(logits + row * stride + at, mask=at < size, other=float("-inf")).to(tl.float32)
    peak, place = peak_of(x, at)
    to = row * tl.num_programs(1) + piece
    tl.store(peaks + to, peak)
    tl.store(places + to, place)
    if weighed:
        temperature = tl.load(temperatures + row)
        safe = tl.where(temperature > 0, temperature, 1.0)
        sound = (peak > float("-inf")) & (peak < float("inf"))  # inf - inf would be NaN; these masses are not used
        reference = tl.where(sound, peak, 0.0)
        tl.store(masses + to, tl.sum(weight_of(x, reference, safe).to(tl.float64), 0))


@triton.jit
def _best(peaks, places, tokens, best, pieces, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, block)
    inside = at < pieces
    found = tl.load(peaks + row * pieces + at, mask=inside, other=float("-inf"))
    peak, piece = peak_of(found, at)
    tl.store(tokens + row, tl.load(places + row * pieces + piece).to(tl.int64))
    tl.store(best + row, peak)
