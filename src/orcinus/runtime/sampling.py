"""From logits to tokens.

A row's token depends on that row and its request alone, never on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from orcinus.core.executor_state import Row
from orcinus.core.request import NOTHING_ALLOWED, Failure, FinishCode, Logprobs
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.cpu_kernels.argmax import argmax
from orcinus.runtime.cpu_kernels.elements import LOADED
from orcinus.runtime.random import uniform
from orcinus.runtime.token_bitmask import apply_token_bitmask, token_bitmasks
from orcinus.runtime.transfers import Link

NOT_FINITE = Failure(
    FinishCode.BAD_LOGITS,
    "its logits are not finite numbers: the weights are damaged, or the dtype is too narrow for them",
)


@dataclass(frozen=True, slots=True)
class Sampled:
    """One token per row, with its log-probabilities or its error.

    Log-probabilities are there if requested.
    """

    tokens: list[int]
    logprobs: dict[int, Logprobs]  # by row
    errors: dict[int, Failure]  # by row


class Choice(Protocol):
    """Chosen tokens, perhaps still being chosen on a device."""

    @property
    def tokens(self) -> Tensor:
        """`[S]` int64 on the device, for a batch that follows."""
        ...

    def read(self) -> Sampled:
        """The sampled tokens on the host.

        On a device, call it after a mark that was made since.
        """
        ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tokens that are already known."""

    sampled: Sampled

    @property
    def tokens(self) -> Tensor:
        return torch.tensor(self.sampled.tokens, dtype=torch.int64)

    def read(self) -> Sampled:
        return self.sampled


def choose(logits: Tensor, rows: Sequence[Row]) -> Chosen:
    """One token per row of `logits` `[len(rows), vocab_size]`, synchronously.

    The rows that want their likeliest token are read once; torch's operations choose for the others.
    """
    others = [place for place, row in enumerate(rows) if not row.request.unadjusted_greedy]
    if len(others) == len(rows) or logits.device.type != "cpu" or logits.dtype not in LOADED:
        return Chosen(sample(logits.float(), rows))
    tokens = argmax(logits)
    logprobs: dict[int, Logprobs] = {}
    errors: dict[int, Failure] = {}
    if min(tokens) < 0:
        errors = {place: NOT_FINITE for place, token in enumerate(tokens) if token < 0 and place not in others}
    if others:
        drawn = sample(logits[others].float(), [rows[place] for place in others])
        for place, token in zip(others, drawn.tokens, strict=True):
            tokens[place] = token
        logprobs = {others[at]: told for at, told in drawn.logprobs.items()}
        errors |= {others[at]: failure for at, failure in drawn.errors.items()}
    return Chosen(Sampled(tokens, logprobs, errors))


def sample(logits: Tensor, rows: Sequence[Row]) -> Sampled:
    """Choose one token per row of `logits` `[len(rows), vocab_size]` (float32, overwritten)."""
    errors = _not_finite(logits.sum(dim=-1), NOT_FINITE)  # NaN and infinities survive a sum
    logits[list(errors)] = 0
    plain = {place: logits[place].log_softmax(dim=-1) for place, row in enumerate(rows) if row.params.logprobs is not None}
    masked, bitmasks = token_bitmasks(rows, logits.shape[1])
    if masked:
        apply_token_bitmask(logits, masked, bitmasks)
    for place, row in enumerate(rows):
        adjust(logits[place], row)
    likeliest, first = logits.max(dim=-1)
    errors |= _not_finite(likeliest, NOTHING_ALLOWED)
    tokens = first.tolist()
    for places in _alike(rows):
        for place, token in zip(places, draw(logits[places], [rows[place] for place in places]), strict=True):
            tokens[place] = token
    logprobs: dict[int, Logprobs] = {}
    for place, likely in plain.items():
        top = rows[place].params.logprobs or 0
        chosen = torch.tensor(tokens[place : place + 1], device=likely.device)
        logprobs[place] = Scores.of(likely[None], chosen, top).read([top])[0]
    return Sampled(tokens, logprobs, errors)


def _not_finite(values: Tensor, failure: Failure) -> dict[int, Failure]:
    return {place: failure for place, finite in enumerate(torch.isfinite(values).tolist()) if not finite}


def adjust(logits: Tensor, row: Row) -> None:
    """Apply biases and penalties to a row `[vocab_size]`, in place.

    Forbidden tokens come before them, as in vLLM.
    """
    params = row.params
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=logits.device)
        logits[ids] += torch.tensor(list(params.logit_bias.values()), device=logits.device)
    if params.penalised:
        counts = row.request.counts
        ids = torch.tensor(counts.ids, device=logits.device)
        if params.repetition_penalty != 1:  # CTRL (Keskar et al., 2019), section 4.1, on prompt and output
            values = logits[ids]
            logits[ids] = torch.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
        generated = torch.tensor(counts.generated, device=logits.device)
        ids, generated = ids[generated > 0], generated[generated > 0]
        logits[ids] -= params.presence_penalty + params.frequency_penalty * generated


def draw(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """Random tokens: invert each row's distribution at one uniform number.

    Rows `[n, vocab_size]` agree on `filters`.
    """
    device, first = logits.device, rows[0].params
    seeds = [row.params.seed or 0 for row in rows]
    u = torch.from_numpy(uniform(seeds, [row.position for row in rows])).to(device)
    temperature = torch.tensor([row.params.temperature for row in rows], device=device)
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature[:, None]
    if not filters(first):
        return _invert(torch.softmax(scaled, dim=-1), u).tolist()
    values, ids = _likeliest(scaled, first.top_k)
    top_p = torch.tensor([row.params.top_p for row in rows], device=device)
    min_p = torch.tensor([row.params.min_p for row in rows], device=device)
    weights = values.exp()  # 1 for the likeliest
    weights *= weights >= min_p[:, None]
    cumulated = weights.cumsum(dim=-1, dtype=torch.float64)
    keep = cumulated - weights < top_p[:, None] * cumulated[:, -1:]  # top_p is a share of what min_p and top_k left
    keep[:, 0] = True  # however small top_p is
    chosen = _invert(weights * keep, u)
    return ids.gather(1, chosen[:, None])[:, 0].tolist()


def _likeliest(scaled: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and ids of tokens, the likeliest first, equal ones by id.

    All tokens, or those no less likely than the k-th. A row with fewer of these than another one ends with values of -inf.
    """
    if not 0 < k < scaled.shape[1]:
        return scaled.sort(dim=-1, descending=True, stable=True)
    values, ids = scaled.topk(k + 1, dim=-1)
    least = values[:, k - 1 : k]
    tied = (values[:, k:] == least) & torch.isfinite(least)
    if tied.any():
        most = (scaled >= least).sum(dim=-1, keepdim=True)[tied].max()
        ids = scaled.topk(int(most), dim=-1).indices
    ids = ids.sort(dim=-1).values  # topk leaves the order of equal ones open
    values = scaled.gather(1, ids)
    values, places = values.masked_fill(values < least, -torch.inf).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, places)


def _invert(weights: Tensor, u: Tensor) -> Tensor:
    """Per row, the first index with cumulated weight above u.

    u is a share of the total; the index never has weight 0.
    """
    cumulated = weights.cumsum(dim=-1, dtype=torch.float64)
    target = u[:, None] * cumulated[:, -1:]
    last = weights.shape[1] - 1 - (weights > 0).flip(-1).int().argmax(dim=-1)  # rounding must not lead past it
    return torch.minimum(torch.searchsorted(cumulated, target, right=True)[:, 0], last)


def filters(params: SamplingParams) -> bool:
    """Whether filters leave some tokens out of the draw."""
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _alike(rows: Sequence[Row]) -> list[list[int]]:
    """Rows that are not greedy, grouped by their operations.

    A group runs the same operations, whatever else is in the batch.
    """
    groups: dict[tuple[bool, int], list[int]] = {}
    for place, row in enumerate(rows):
        if not row.params.greedy:
            groups.setdefault((filters(row.params), max(0, row.params.top_k)), []).append(place)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class Scores:
    """One token's log-probability and rank per row, and the likeliest tokens."""

    chosen: Tensor  # [n] log-probability of the token
    ranks: Tensor  # [n] its rank, 1 = the likeliest; among equal ones the token itself is first
    ids: Tensor  # [n, top] the likeliest tokens
    values: Tensor  # [n, top] theirs

    @classmethod
    def of(cls, rows: Tensor, tokens: Tensor, top: int) -> Scores:
        """Scores of `tokens` `[n]` in log-probabilities `rows` `[n, vocab_size]`."""
        tokens = tokens[:, None]
        chosen = rows.gather(1, tokens)
        values, ids = rows.topk(min(top, rows.shape[1]), dim=-1)
        last_equal = (values == chosen) & ((values == chosen).flip(-1).cumsum(dim=-1).flip(-1) == 1)
        ids = torch.where(last_equal & (ids != tokens).all(dim=-1, keepdim=True), tokens, ids)  # topk took others, as likely
        order = torch.where(ids == tokens, -1, ids).argsort(dim=-1)
        values, ids = values.gather(1, order), ids.gather(1, order)
        values, order = values.sort(dim=-1, descending=True, stable=True)
        return cls(chosen[:, 0], (rows > chosen).sum(dim=-1) + 1, ids.gather(1, order), values)

    def down(self, link: Link) -> Scores:
        """A copy on the host, valid from the next mark on."""
        return Scores(link.down(self.chosen), link.down(self.ranks), link.down(self.ids), link.down(self.values))

    def read(self, tops: Sequence[int]) -> list[Logprobs]:
        """Each row's log-probabilities, with its number of likeliest tokens."""
        facts = zip(self.chosen.tolist(), self.ranks.tolist(), self.ids.tolist(), self.values.tolist(), tops, strict=True)
        return [Logprobs(one, rank, tuple(zip(ids[:top], values[:top], strict=True))) for one, rank, ids, values, top in facts]
