"""Random tokens by inversion at one uniform number, as `runtime.sampling.draw`.

Rows are greedy, plain (temperature alone) or filtered (top-k, top-p, min-p); one batch may mix them.

* plain: the survey says how much probability each piece of the vocabulary has, so that one piece has to be looked through.
* filtered: `draw` sorts the row and inverts along the sorted order. A filter keeps a beginning of that order, and so does
  the uniform number; all that is asked is "where does the mass (or the number) of the likelier tokens reach a goal?", and
  a search over the values answers it without sorting: see `filters.py`. It looks at the few tokens that can be left.

Given the same logits a token is the one that `draw` takes, but for rounding: exponentials and sums in float32 differ in
their last bits, and a uniform number that falls right between two tokens (within about 1e-6 of their edge) may choose the
other one. Among equal logits the lowest ids count as the likeliest, here and in `draw`.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from orcinus.runtime.kernels.argmax import PIECE, Survey, chosen, peak_of, survey, weight_of
from orcinus.runtime.kernels.filters import pick_filtered
from orcinus.runtime.kernels.launch_configs import padded
from orcinus.runtime.kernels.philox import uniform_of


@dataclass(frozen=True, slots=True)
class Wishes:
    """The sampling parameters of the rows, each `[S]`, named as in `SamplingParams`."""

    temperature: Tensor  # float32; below 1e-5 = greedy
    top_k: Tensor  # int32; 0 or less = all
    top_p: Tensor  # float32; 1 = all
    min_p: Tensor  # float32; 0 = all
    seed: Tensor  # int64: 64 bits, as signed
    position: Tensor  # int64: position of the new token in its sequence


def sample(logits: Tensor, wishes: Wishes, filtered: bool, out: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """One token (int64) and the largest logit (float32) of each row.

    `logits` are `[S, vocab]`.

    `filtered` says whether any row has a filter: without, the kernel for those is not launched. Penalties and biases come
    before (`penalties.py`). `logits` may be strided by rows and of any float dtype.
    """
    tokens, peaks = out or chosen(logits)
    if not len(logits):
        return tokens, peaks
    seen = survey(logits, wishes.temperature)
    _pick_plain(logits, wishes, seen, tokens, peaks)
    if filtered:
        pick_filtered(logits, wishes.temperature, wishes.top_k, wishes.top_p, wishes.min_p, wishes.seed, wishes.position,
                      seen, peaks, tokens)  # fmt: skip
    return tokens, peaks


def _pick_plain(logits: Tensor, wishes: Wishes, seen: Survey, tokens: Tensor, peaks: Tensor) -> None:
    """Pick the tokens of greedy and plain rows.

    Filtered rows get their peak and their likeliest token.
    """
    (rows, size), pieces = logits.shape, seen.peaks.shape[1]
    _pick[(rows,)](
        logits, wishes.temperature, wishes.top_k, wishes.top_p, wishes.min_p, wishes.seed, wishes.position,
        seen.peaks, seen.places, seen.masses, tokens, peaks, logits.stride(0), size, pieces,
        pieces_padded=padded(pieces, 1), block=min(PIECE, padded(size)), num_warps=8,
    )  # fmt: skip


@triton.jit
def _first_beyond(weights, at, before, goal):
    """The first place where the cumulated weights exceed the goal.

    It is a place with a weight.
    """
    cumulated = before + tl.cumsum(weights, 0)
    last = tl.max(tl.where(weights > 0, at, 0), 0)  # rounding must not lead past it
    return tl.min(tl.where((cumulated > goal) & (weights > 0), at, last), 0)


@triton.jit
def _pick(
    logits, temperatures, top_k, top_p, min_p, seeds, positions, found, places, masses, tokens, peaks,
    stride, size, pieces, pieces_padded: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    number = tl.arange(0, pieces_padded)
    inside = number < pieces
    found_peaks = tl.load(found + row * pieces + number, mask=inside, other=float("-inf"))
    peak, piece = peak_of(found_peaks, number)
    tl.store(peaks + row, peak)
    token = tl.load(places + row * pieces + piece)
    temperature = tl.load(temperatures + row)
    plain = (tl.load(top_k + row) <= 0) & (tl.load(top_p + row) >= 1) & (tl.load(min_p + row) <= 0)
    sound = (peak > float("-inf")) & (peak < float("inf"))
    if sound & plain & (temperature >= 1e-5):
        share = tl.load(masses + row * pieces + number, mask=inside, other=0.0)
        share *= weight_of(found_peaks, peak, temperature).to(tl.float64)
        goal = uniform_of(tl.load(seeds + row), tl.load(positions + row)) * tl.sum(share, 0)
        piece = _first_beyond(share, number, 0.0, goal)
        before = tl.sum(tl.where(number < piece, share, 0.0), 0)
        at = piece * block + tl.arange(0, block)
        x = tl.load(logits + row * stride + at, mask=at < size, other=float("-inf")).to(tl.float32)
        token = _first_beyond(weight_of(x, peak, temperature).to(tl.float64), at, before, goal)
    tl.store(tokens + row, token.to(tl.int64))
