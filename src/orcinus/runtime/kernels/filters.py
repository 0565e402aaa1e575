"""Top-k, top-p and min-p by a search over logits, without a sort.

Sort a row's tokens from the likeliest down. Each filter keeps a beginning of that order: min_p keeps the tokens above it; top_k
the first k and those equal to the k-th; top_p, among what these two leave, the tokens before which less than top_p of the mass
stands. The uniform number u then asks for the token at which the cumulated mass passes u times the kept mass. So one question
is enough: at which value does the number, or the mass, of the likelier tokens reach a goal? The distance of a logit from the
largest, over the temperature, is a float of at least 0, whose 31 bits are ordered like the number itself: eight edges at once
narrow it by three bits a pass, until one token (or only equal ones) is left, which in practice takes six or seven passes. They
go over the row's candidates (`candidates.py`), or over the whole row if those are too many.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from orcinus.runtime.kernels.argmax import Survey
from orcinus.runtime.kernels.candidates import MOST, distance_of, filtered, gather, total_mass
from orcinus.runtime.kernels.launch_configs import padded
from orcinus.runtime.kernels.philox import uniform_of

BLOCK = 2048  # logits of a row at a time: 8 edges × 2048 × (mass, number) = 64 registers a thread of 16 warps; 4096 spill


def pick_filtered(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seed: Tensor, position: Tensor,
    seen: Survey, peaks: Tensor, tokens: Tensor,
) -> None:  # fmt: skip
    """Replace the tokens of rows with filters; arguments as in `sample.Wishes`.

    Greedy rows stay unchanged. One program handles a row of `logits` `[S, vocab]`; for other rows it ends at once. `peaks`
    `[S]` are the rows' largest logits.
    """
    (rows, size), pieces = logits.shape, seen.peaks.shape[1]
    few = gather(logits, (temperature, top_k, top_p, min_p), seen, peaks)
    block = min(BLOCK, padded(size))
    _pick_filtered[(rows,)](
        logits, temperature, top_k, top_p, min_p, seed, position, seen.peaks, seen.masses, peaks,
        few.sizes, few.logits, few.ids, tokens, logits.stride(0), size, pieces,
        most=MOST, pieces_padded=padded(pieces, 1), block=block, num_warps=max(1, block // 128),
    )  # fmt: skip


@triton.jit
def _keys(row, at, size, peak, temperature):
    """An integer key of each logit: 0 = likeliest, largest = forbidden."""
    return distance_of(row, at, size, peak, temperature).to(tl.int32, bitcast=True)


@triton.jit
def _amounts(row, size, peak, temperature, edges, ways: tl.constexpr, block: tl.constexpr):
    """The number and mass of allowed tokens up to each edge."""
    counts = tl.zeros([block, ways], tl.int32)
    masses = tl.zeros([block, ways], tl.float32)
    for begin in range(0, size, block):  # every lane sums for itself: no thread waits for another here
        keys = _keys(row, begin + tl.arange(0, block), size, peak, temperature)
        weights = tl.exp(-keys.to(tl.float32, bitcast=True))
        under = (keys[:, None] <= edges[None, :]) & (keys < 0x7F800000)[:, None]
        counts += under.to(tl.int32)
        masses += tl.where(under, weights[:, None], 0.0)
    return tl.sum(counts, 0), tl.sum(masses.to(tl.float64), 0)


@triton.jit
def _search(row, size, peak, temperature, goal, by_mass: tl.constexpr, beyond: tl.constexpr, block: tl.constexpr):
    """The keys [low, last] of the token that reaches the goal.

    Tokens count from the likeliest down. With `beyond` they have to exceed the goal. Also returns the number and the mass of
    the tokens before these keys, and of those among them: one token, or equal ones.
    """
    ways: tl.constexpr = 8
    way = tl.arange(0, ways)
    low = tl.full([], 0, tl.int32)
    last = tl.full([], 0x7FFFFFFF, tl.int32)
    shift = tl.full([], 28, tl.int32)
    before, before_mass = tl.full([], 0, tl.int32), tl.full([], 0.0, tl.float64)
    among, among_mass = tl.full([], 2, tl.int32), tl.full([], 0.0, tl.float64)
    while (among > 1) & (low < last):
        width = (tl.full([], 1, tl.int32) << shift) - 1
        counts, masses = _amounts(row, size, peak, temperature, low + (way << shift) + width, ways, block)
        amounts = masses if by_mass else counts.to(tl.float64)
        short = (amounts <= goal) if beyond else (amounts < goal)
        step = tl.minimum(tl.sum(short.to(tl.int32), 0), ways - 1)
        before = tl.maximum(before, tl.sum(tl.where(way == step - 1, counts, 0), 0))
        before_mass = tl.maximum(before_mass, tl.sum(tl.where(way == step - 1, masses, 0.0), 0))
        among = tl.sum(tl.where(way == step, counts, 0), 0) - before
        among_mass = tl.sum(tl.where(way == step, masses, 0.0), 0) - before_mass
        low += step << shift
        last = low + width
        shift = tl.maximum(shift - 3, 0)
    return low, last, before, before_mass, tl.maximum(among, 1), among_mass


@triton.jit
def _mass_of_top_k(row, size, peak, temperature, k, block: tl.constexpr):
    """The mass of the k likeliest tokens, ties included."""
    _, _, _, before_mass, _, among_mass = _search(row, size, peak, temperature, k.to(tl.float64), False, False, block)
    return before_mass + among_mass


@triton.jit
def _mass_of_top_p(row, size, peak, temperature, goal, block: tl.constexpr):
    """The mass of the fewest likeliest tokens that reach the goal."""
    _, _, _, before_mass, among, among_mass = _search(row, size, peak, temperature, goal, True, False, block)
    each = among_mass / among
    missing = tl.ceil((goal - before_mass) / tl.maximum(each, 1e-300))
    return before_mass + each * tl.minimum(tl.maximum(missing, 1.0), among.to(tl.float64))


@triton.jit
def _mass_above(row, size, peak, temperature, least, block: tl.constexpr):
    """The mass of tokens whose relative probability is at least `least`.

    It is relative to the likeliest token's.
    """
    masses = tl.zeros([block], tl.float32)
    for begin in range(0, size, block):
        weights = tl.exp(-_keys(row, begin + tl.arange(0, block), size, peak, temperature).to(tl.float32, bitcast=True))
        masses += tl.where(weights >= least, weights, 0.0)
    return tl.sum(masses.to(tl.float64), 0)


@triton.jit
def _nth(row, size, peak, temperature, low, last, number, otherwise, block: tl.constexpr):
    """The token with `number` others before it, by id.

    Only tokens with keys in [low, last] count.
    """
    token = otherwise
    passed = tl.full([], 0, tl.int32)
    for begin in range(0, size, block):
        at = begin + tl.arange(0, block)
        keys = _keys(row, at, size, peak, temperature)
        fits = ((keys >= low) & (keys <= last)).to(tl.int32)
        rank = passed + tl.cumsum(fits, 0) - 1
        token = tl.maximum(token, tl.max(tl.where((fits > 0) & (rank == number), at, -1), 0))
        passed += tl.sum(fits, 0)
    return token


@triton.jit
def _kept(row, size, peak, temperature, total, k, p, least, whole, block: tl.constexpr):
    """The mass of the tokens that the filters leave.

    `whole` is the size of the vocabulary, which bounds top-k.
    """
    kept = total
    if (k > 0) & (k < whole):
        kept = _mass_of_top_k(row, size, peak, temperature, k, block)
    if least > 0:
        kept = tl.minimum(kept, _mass_above(row, size, peak, temperature, least, block))
    if p < 1:
        kept = _mass_of_top_p(row, size, peak, temperature, p.to(tl.float64) * kept, block)
    return tl.maximum(kept, 1.0)  # the likeliest token has mass 1 and is kept however small top_p is


@triton.jit
def _pick_filtered(
    logits, temperatures, top_k, top_p, min_p, seeds, positions, found, shares, peaks, sizes, values, ids, tokens,
    stride, size, pieces, most: tl.constexpr, pieces_padded: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0).to(tl.int64)
    if filtered(index, temperatures, top_k, top_p, min_p, peaks):
        peak, temperature = tl.load(peaks + index), tl.load(temperatures + index)
        k, p, least = tl.load(top_k + index), tl.load(top_p + index), tl.load(min_p + index)
        total = total_mass(index, pieces, found, shares, peak, temperature, pieces_padded)
        few = tl.load(sizes + index)
        row, among_them = logits + index * stride, size
        if few > 0:
            row, among_them = values + index * most, few
        kept = _kept(row, among_them, peak, temperature, total, k, p, least, size, block)
        goal = uniform_of(tl.load(seeds + index), tl.load(positions + index)) * kept
        low, last, _, before, among, among_mass = _search(row, among_them, peak, temperature, goal, True, True, block)
        skipped = tl.floor((goal - before) * among / tl.maximum(among_mass, 1e-300))
        skipped = tl.minimum(tl.maximum(skipped, 0.0), among.to(tl.float64) - 1).to(tl.int32)
        unchosen = tl.full([], -1, tl.int32)
        place = _nth(row, among_them, peak, temperature, low, last, skipped, unchosen, block)
        token = tl.load(ids + index * most + place, mask=(few > 0) & (place >= 0), other=0)
        token = tl.where(few > 0, token, place)
        tl.store(tokens + index, token.to(tl.int64), mask=place >= 0)
