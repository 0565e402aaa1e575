"""Tokens chosen on the device by our kernels, without waiting.

The next batch finds them on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orcinus.core.batch import NewRequest
from orcinus.core.executor_state import RequestState, Row
from orcinus.core.request import NO_CONTEXT, NOTHING_ALLOWED
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.kernels.argmax import argmax
from orcinus.runtime.kernels.penalties import add_biases, penalise
from orcinus.runtime.kernels.sample import Wishes, sample
from orcinus.runtime.kernels.token_bitmask import apply_token_bitmask
from orcinus.runtime.sampling import NOT_FINITE, Sampled, Scores, filters
from orcinus.runtime.token_bitmask import token_bitmasks
from orcinus.runtime.transfers import Link

MOST_TOP_K = 2**31 - 1  # the largest int32, and more than any vocabulary
NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Choosing:
    """Tokens being chosen on the device."""

    tokens: Tensor  # [S] int64 on the device
    host_tokens: Tensor  # [S] the same, copied to the host
    host_peaks: Tensor  # [S] float32: the largest logits, which reveal damaged rows
    asked: tuple[int, ...]  # rows with log-probabilities
    tops: tuple[int, ...]  # number of top log-probabilities for each
    scores: Scores | None

    def read(self) -> Sampled:
        tokens: list[int] = self.host_tokens.tolist()
        logprobs = dict(zip(self.asked, self.scores.read(self.tops) if self.scores else (), strict=True))
        peaks = self.host_peaks.numpy()
        broken = np.flatnonzero(~np.isfinite(peaks)).tolist()
        errors = {row: NOTHING_ALLOWED if peaks[row] == -math.inf else NOT_FINITE for row in broken}
        return Sampled(tokens, logprobs, errors)


class KernelChooser:
    """Launches penalties, filters, draws and log-probabilities without waiting for them.

    Their meaning is that of `runtime.sampling`.
    """

    def __init__(self, link: Link) -> None:
        self.link = link

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Choosing:
        asked = [place for place, row in enumerate(rows) if row.params.logprobs is not None]
        plain = self._plain(logits, asked) if asked else None
        logits = self._adjusted(logits, rows)
        tokens, peaks = self._draw(logits, [row.params for row in rows], [row.position for row in rows])
        tops = tuple(rows[place].params.logprobs or 0 for place in asked)
        scores = None
        if plain is not None:
            mine = tokens.index_select(0, self.link.numbers(np.array(asked)))
            scores = Scores.of(plain, mine, max(tops)).down(self.link)
        return Choosing(tokens, self.link.down(tokens), self.link.down(peaks), tuple(asked), tops, scores)

    def warm_up(self, vocab_size: int, dtype: torch.dtype) -> None:
        """Compile every kernel: for greedy, plain and filtered rows.

        Each also runs with everything that makes logits float32.
        """
        plain = SamplingParams(seed=0)
        for params in (SamplingParams(temperature=0, logprobs=1), plain, replace(plain, top_p=0.9)):
            for wanted in (params, replace(params, frequency_penalty=1.0, logit_bias={0: 1.0}, allowed_token_ids=(0,))):
                logits = torch.zeros(1, vocab_size, dtype=dtype, device=self.link.device)
                state = RequestState.of(NewRequest("warm-up", (0,), (0,), wanted, NO_CONTEXT, ((0,),)))
                self(logits, [Row(state, 2)]).read()

    def _plain(self, logits: Tensor, rows: list[int]) -> Tensor:
        """Log-probabilities of the model's own distribution, before penalties and filters."""
        return logits.index_select(0, self.link.numbers(np.array(rows))).float().log_softmax(dim=-1)

    def _draw(self, logits: Tensor, params: list[SamplingParams], positions: list[int]) -> tuple[Tensor, Tensor]:
        if all(one.greedy for one in params):
            return argmax(logits)
        filtered = any(filters(one) and not one.greedy for one in params)
        return sample(logits, self._wishes(params, positions), filtered)

    def _wishes(self, params: list[SamplingParams], positions: list[int]) -> Wishes:
        """The rows' sampling parameters, in one copy to the device.

        Three rows of float32, one of int32, two of int64.
        """
        count, wide = len(params), _wide(len(params))
        words = np.empty((8, wide), np.int32)
        words[:3].view(np.float32)[:, :count] = [
            [getattr(one, name) for one in params] for name in ("temperature", "top_p", "min_p")
        ]
        words[3, :count] = [min(one.top_k, MOST_TOP_K) for one in params]
        words[4:].view(np.int64).reshape(2, wide)[:, :count] = [[one.seed or 0 for one in params], positions]
        there = self.link.numbers(words)
        temperature, top_p, min_p = there[:3].view(torch.float32)[:, :count]
        seed, position = there[4:].view(torch.int64).view(2, wide)[:, :count]
        return Wishes(temperature, there[3, :count], top_p, min_p, seed, position)

    def _adjusted(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """Logits after forbidden tokens, biases and penalties, in vLLM's order.

        They are float32 if there are any of these.
        """
        penalised = any(row.params.penalised for row in rows)
        if not penalised and not any(_masks_or_biases(row.params) for row in rows):
            return logits  # the usual case, checked first: looking for each row's changes is slow
        logits = logits.float()
        masked, words = token_bitmasks(rows, logits.shape[1])
        if masked:
            apply_token_bitmask(logits, self.link.numbers(np.array(masked, np.int32)), self.link.numbers(words))
        biases = [row.params.logit_bias for row in rows]
        if any(biases):
            ids = self._ragged([list(one) for one in biases], -1, np.int32)
            add_biases(logits, ids, self._ragged([list(one.values()) for one in biases], 0, np.float32))
        if penalised:
            self._penalise(logits, rows)
        return logits

    def _penalise(self, logits: Tensor, rows: Sequence[Row]) -> None:
        seen = [_counts(row) if row.params.penalised else (NONE, NONE) for row in rows]
        ids, counts = (self._ragged([one[part] for one in seen], fill, np.int32) for part, fill in ((0, -1), (1, 0)))
        names = ("repetition_penalty", "presence_penalty", "frequency_penalty")
        strengths = np.empty((len(names), _wide(len(rows))), np.float32)
        strengths[:, : len(rows)] = [[getattr(row.params, name) for row in rows] for name in names]
        penalise(logits, ids, counts, *self.link.numbers(strengths))

    def _ragged(self, rows: Sequence[Sequence[float] | NDArray[np.int64]], fill: int, kind: type[np.generic]) -> Tensor:
        """Lists of different lengths as one array on the device, padded."""
        padded = np.full((len(rows), max(map(len, rows))), fill, kind)
        for to, row in zip(padded, rows, strict=True):
            to[: len(row)] = row
        return self.link.numbers(padded)


def _wide(count: int) -> int:
    """The count, rounded up to whole 16 bytes of 4-byte numbers.

    What follows is then aligned as the kernels were compiled for.
    """
    return -(-count // 4) * 4


def _masks_or_biases(params: SamplingParams) -> bool:
    return params.masked or bool(params.logit_bias)


def _counts(row: Row) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct tokens of prompt and output, and how often each was generated."""
    counts = row.request.counts
    return np.array(counts.ids), np.array(counts.generated)
