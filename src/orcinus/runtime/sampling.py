"""From logits to tokens. What a row becomes depends on that row and its request alone, never on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from orcinus.core.batch import Chunk
from orcinus.core.request import Logprobs
from orcinus.core.sampling_params import ALL_FORBIDDEN, SamplingParams
from orcinus.runtime.random import uniform
from orcinus.runtime.token_bitmask import apply_token_bitmask, token_bitmask
from orcinus.runtime.transfers import Link

NOT_FINITE = "its logits are not finite numbers: the weights are damaged, or the dtype is too narrow for them"


@dataclass(frozen=True, slots=True)
class Sampled:
    """One row per sampling chunk: its token, its log-probabilities if asked for, or why it has none."""

    tokens: list[int]
    logprobs: list[Logprobs | None]
    errors: dict[int, str]


class Choice(Protocol):
    """Tokens that were chosen, or are being chosen on a device."""

    @property
    def tokens(self) -> Tensor:
        """`[S]` int64 on the device, for a batch that follows."""
        ...

    def read(self) -> Sampled:
        """What the host wants to know of them; on a device, after a mark that was made since."""
        ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """Tokens that are known already."""

    sampled: Sampled

    @property
    def tokens(self) -> Tensor:
        return torch.tensor(self.sampled.tokens, dtype=torch.int64)

    def read(self) -> Sampled:
        return self.sampled


def choose(logits: Tensor, chunks: Sequence[Chunk]) -> Chosen:
    """One token per row of `logits` `[len(chunks), vocab_size]`, with torch's operations, and waiting for them."""
    return Chosen(sample(logits.float(), chunks))


def sample(logits: Tensor, chunks: Sequence[Chunk]) -> Sampled:
    """Choose one token per row of `logits` `[len(chunks), vocab_size]` (float32, overwritten)."""
    errors = _not_finite(logits.sum(dim=-1), NOT_FINITE)  # NaN and infinities survive a sum
    logits[list(errors)] = 0
    plain = {row: logits[row].log_softmax(dim=-1) for row, chunk in enumerate(chunks) if chunk.params.logprobs is not None}
    for row, chunk in enumerate(chunks):
        adjust(logits[row], chunk)
    likeliest, first = logits.max(dim=-1)
    errors |= _not_finite(likeliest, ALL_FORBIDDEN)
    tokens = first.tolist()
    for rows in _alike(chunks):
        for row, token in zip(rows, draw(logits[rows], [chunks[row] for row in rows]), strict=True):
            tokens[row] = token
    logprobs: list[Logprobs | None] = [None] * len(chunks)
    for row, likely in plain.items():
        top = chunks[row].params.logprobs or 0
        logprobs[row] = Scores.of(likely[None], torch.tensor(tokens[row : row + 1], device=likely.device), top).read([top])[0]
    return Sampled(tokens, logprobs, errors)


def _not_finite(values: Tensor, reason: str) -> dict[int, str]:
    return {row: reason for row, finite in enumerate(torch.isfinite(values).tolist()) if not finite}


def adjust(logits: Tensor, chunk: Chunk) -> None:
    """Forbidden tokens, biases and penalties of one request, in vLLM's order, in place on its row `[vocab_size]`."""
    params = chunk.params
    bitmask = token_bitmask(chunk, len(logits))
    if bitmask is not None:
        apply_token_bitmask(logits, bitmask)
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=logits.device)
        logits[ids] += torch.tensor(list(params.logit_bias.values()), device=logits.device)
    if params.penalised:
        seen = torch.tensor(chunk.history, device=logits.device)
        if params.repetition_penalty != 1:  # CTRL (Keskar et al., 2019), section 4.1, on prompt and output
            ids, _ = _counts(seen)
            values = logits[ids]
            logits[ids] = torch.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
        ids, counts = _counts(seen[chunk.prompt_length :])
        logits[ids] -= params.presence_penalty + params.frequency_penalty * counts


def _counts(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct ids, and how often each occurs."""
    distinct, counts = torch.unique(ids, return_counts=True)
    return distinct, counts


def draw(logits: Tensor, chunks: Sequence[Chunk]) -> list[int]:
    """Random tokens for rows `[n, vocab_size]` that agree on `filters`: invert the distribution at one uniform number."""
    device, first = logits.device, chunks[0].params
    seeds = [chunk.params.seed or 0 for chunk in chunks]
    u = torch.from_numpy(uniform(seeds, [chunk.end for chunk in chunks])).to(device)
    temperature = torch.tensor([chunk.params.temperature for chunk in chunks], device=device)
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature[:, None]
    if not filters(first):
        return _invert(torch.softmax(scaled, dim=-1), u).tolist()
    values, ids = _likeliest(scaled, first.top_k)
    top_p = torch.tensor([chunk.params.top_p for chunk in chunks], device=device)
    min_p = torch.tensor([chunk.params.min_p for chunk in chunks], device=device)
    weights = values.exp()  # 1 for the likeliest
    weights *= weights >= min_p[:, None]
    cumulated = weights.cumsum(dim=-1, dtype=torch.float64)
    keep = cumulated - weights < top_p[:, None] * cumulated[:, -1:]  # top_p is a share of what min_p and top_k left
    keep[:, 0] = True  # however small top_p is
    chosen = _invert(weights * keep, u)
    return ids.gather(1, chosen[:, None])[:, 0].tolist()


def _likeliest(scaled: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and ids of tokens from the likeliest down, equal ones by their ids: all, or those no less likely than the k-th.

    Where a row has fewer of these than another one, the values behind them are -inf.
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
    """For every row the first index whose cumulated weight exceeds u of the total; it never has weight 0."""
    cumulated = weights.cumsum(dim=-1, dtype=torch.float64)
    target = u[:, None] * cumulated[:, -1:]
    last = weights.shape[1] - 1 - (weights > 0).flip(-1).int().argmax(dim=-1)  # rounding must not lead past it
    return torch.minimum(torch.searchsorted(cumulated, target, right=True)[:, 0], last)


def filters(params: SamplingParams) -> bool:
    """Whether some tokens are left out before one is drawn."""
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _alike(chunks: Sequence[Chunk]) -> list[list[int]]:
    """Rows that are not greedy, grouped so that each group runs the same operations whoever else is in the batch."""
    groups: dict[tuple[bool, int], list[int]] = {}
    for row, chunk in enumerate(chunks):
        if not chunk.params.greedy:
            groups.setdefault((filters(chunk.params), max(0, chunk.params.top_k)), []).append(row)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class Scores:
    """What rows of log-probabilities say about one token each, wherever they were computed."""

    chosen: Tensor  # [n] log-probability of the token
    ranks: Tensor  # [n] its place, 1 = the likeliest; of equal ones the token itself stands first
    ids: Tensor  # [n, top] the likeliest tokens
    values: Tensor  # [n, top] theirs

    @classmethod
    def of(cls, rows: Tensor, tokens: Tensor, top: int) -> Scores:
        """`rows` are log-probabilities `[n, vocab_size]`, `tokens` `[n]`."""
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
        """The same on the host, from the next mark on."""
        return Scores(link.down(self.chosen), link.down(self.ranks), link.down(self.ids), link.down(self.values))

    def read(self, tops: Sequence[int]) -> list[Logprobs]:
        """For every row its token's facts and so many of the likeliest."""
        facts = zip(self.chosen.tolist(), self.ranks.tolist(), self.ids.tolist(), self.values.tolist(), tops, strict=True)
        return [Logprobs(one, rank, tuple(zip(ids[:top], values[:top], strict=True))) for one, rank, ids, values, top in facts]
