"""Candidate tokens: the few of a row that filters can leave.

They are collected in parallel. A search passes over its tokens ten or twenty times, and one program would take long over a
whole vocabulary. So the census counts and weighs the tokens up to sixteen distances from the likeliest, and the gathering
copies those up to the least distance that surely holds all that the filters leave: hundreds instead of 151,936. A row that
needs more than `MOST` (a flat distribution under a top_p close to 1) is searched whole.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from orcinus.runtime.kernels.argmax import PIECE, Survey, weight_of
from orcinus.runtime.kernels.launch_configs import padded

MOST = 4096
EDGES: tl.constexpr = tl.constexpr(16)
MARGIN: tl.constexpr = tl.constexpr(1.0001)  # sums are rounded, so candidates are collected with a margin


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate tokens of each row, in the order of their ids."""

    sizes: Tensor  # [S] int32: number of candidates; 0 = too many, search the whole row
    logits: Tensor  # [S, MOST], in the dtype of the row
    ids: Tensor  # [S, MOST] int32


def gather(logits: Tensor, filters: tuple[Tensor, Tensor, Tensor, Tensor], seen: Survey, peaks: Tensor) -> Candidates:
    """Candidates of the rows of `logits` that have a filter.

    Other rows' candidates are not written. `logits` are `[S, vocab]`; `filters` are temperature, top_k, top_p and min_p, each
    `[S]` as in `sample.Wishes`; `peaks` `[S]` are the largest logits.
    """
    (rows, size), pieces, device = logits.shape, seen.peaks.shape[1], logits.device
    counts = torch.empty((rows, pieces, EDGES.value), dtype=torch.int32, device=device)
    masses = torch.empty((rows, pieces, EDGES.value), dtype=torch.float32, device=device)
    sizes = torch.empty(rows, dtype=torch.int32, device=device)
    found = Candidates(sizes, logits.new_empty(rows, MOST), torch.empty((rows, MOST), dtype=torch.int32, device=device))
    block = min(PIECE, padded(size))
    _census[(rows, pieces)](logits, *filters, peaks, counts, masses, logits.stride(0), size, block=block, num_warps=8)
    _gather[(rows, pieces)](
        logits, *filters, peaks, seen.peaks, seen.masses, counts, masses, sizes, found.logits, found.ids,
        logits.stride(0), size, most=MOST, pieces_padded=padded(pieces, 1), block=block, num_warps=8,
    )  # fmt: skip
    return found


@triton.jit
def filtered(index, temperatures, top_k, top_p, min_p, peaks):
    """Whether a row is filtered, not greedy, and has finite logits."""
    peak = tl.load(peaks + index)
    sound = (peak > float("-inf")) & (peak < float("inf")) & (tl.load(temperatures + index) >= 1e-5)
    return sound & ((tl.load(top_k + index) > 0) | (tl.load(top_p + index) < 1) | (tl.load(min_p + index) > 0))


@triton.jit
def total_mass(index, pieces, found, shares, peak, temperature, pieces_padded: tl.constexpr):
    """The mass of a whole row; the likeliest token's mass is 1."""
    piece = tl.arange(0, pieces_padded)
    heights = tl.load(found + index * pieces + piece, mask=piece < pieces, other=float("-inf"))
    mass = tl.load(shares + index * pieces + piece, mask=piece < pieces, other=0.0)
    return tl.sum(mass * weight_of(heights, peak, temperature).to(tl.float64), 0)


@triton.jit
def distance_of(row, at, size, peak, temperature):
    """(peak - logit) / temperature: at least 0, infinite if forbidden."""
    x = tl.load(row + at, mask=at < size, other=float("-inf")).to(tl.float32)
    return tl.abs(tl.fdiv(x - peak, temperature, ieee_rounding=True))


@triton.jit
def _edge(number):
    """An edge's distance: 1 to 12, then 17, 30, 51, 80."""
    beyond = tl.maximum(number - 11, 0)
    return (number + 1 + 4 * beyond * beyond).to(tl.float32)


@triton.jit
def _census(logits, temperatures, top_k, top_p, min_p, peaks, counts, masses, stride, size, block: tl.constexpr):
    index, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    if filtered(index, temperatures, top_k, top_p, min_p, peaks):
        at = piece * block + tl.arange(0, block)
        far = distance_of(logits + index * stride, at, size, tl.load(peaks + index), tl.load(temperatures + index))
        weights = tl.exp(-far)
        to = (index * tl.num_programs(1) + piece) * EDGES
        for number in range(EDGES):
            under = far <= _edge(number)
            tl.store(counts + to + number, tl.sum(under.to(tl.int32), 0))
            tl.store(masses + to + number, tl.sum(tl.where(under, weights, 0.0), 0))


@triton.jit
def _enough(number, counts, masses, size, k, p, least, total):
    """The edges that enclose what top_k and min_p leave, or else top_p.

    top_p is a share of the mass that those two leave.
    """
    limited = (k > 0) & (k < size)
    wanted = tl.where(limited, k, 2147483647)
    goal = tl.where(limited | (least > 0) | (p >= 1), float("inf"), p.to(tl.float64) * total * MARGIN)
    return (counts >= wanted) | (masses.to(tl.float64) >= goal) | (tl.exp(-_edge(number)) * MARGIN < least)


@triton.jit
def _gather(
    logits, temperatures, top_k, top_p, min_p, peaks, found, shares, counts, masses, sizes, values, ids, stride, size,
    most: tl.constexpr, pieces_padded: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    index, piece, pieces = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    if filtered(index, temperatures, top_k, top_p, min_p, peaks):
        peak, temperature = tl.load(peaks + index), tl.load(temperatures + index)
        other, number = tl.arange(0, pieces_padded), tl.arange(0, EDGES)
        table = (index * pieces + other)[:, None] * EDGES + number[None, :]
        count = tl.load(counts + table, mask=(other < pieces)[:, None], other=0)
        mass = tl.sum(tl.load(masses + table, mask=(other < pieces)[:, None], other=0.0), 0)
        in_all = tl.sum(count, 0)
        k, p, least = tl.load(top_k + index), tl.load(top_p + index), tl.load(min_p + index)
        sum_of_row = total_mass(index, pieces, found, shares, peak, temperature, pieces_padded)
        enough = _enough(number, in_all, mass, size, k, p, least, sum_of_row)
        edge = tl.min(tl.where(enough, number, EDGES), 0)  # EDGES if none is
        total = tl.sum(tl.where(number == edge, in_all, 0), 0)
        total = tl.where(total > most, 0, total)
        if piece == 0:
            tl.store(sizes + index, total)
        if total > 0:
            earlier = (other < piece)[:, None] & (number == edge)[None, :]
            begin = tl.sum(tl.sum(tl.where(earlier, count, 0), 1), 0)
            at = piece * block + tl.arange(0, block)
            row = logits + index * stride
            fits = distance_of(row, at, size, peak, temperature) <= _edge(edge)
            to = index * most + begin + tl.cumsum(fits.to(tl.int32), 0) - 1
            tl.store(values + to, tl.load(row + at, mask=fits, other=0.0), mask=fits)
            tl.store(ids + to, at, mask=fits)
