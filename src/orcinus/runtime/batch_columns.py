"""A batch's chunks by column, with the executor's state of each request.

Sampling, packing and scoring ask each chunk different things. To read a column takes a fraction of the time of asking all
chunks in turn, and in an iteration of decodes that is most of what the executor itself does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from orcinus.core.batch import Batch, Chunk
from orcinus.core.executor_state import RequestState

ADAPTER = attrgetter("adapter")


@dataclass(frozen=True, slots=True)
class BatchColumns:
    """One entry per chunk in every column, in the order of the batch."""

    states: Mapping[str, RequestState]  # of all requests that the executor knows
    chunks: tuple[Chunk, ...]
    requests: list[RequestState]
    ids: Sequence[str]
    tokens: Sequence[tuple[int, ...]]
    counts: list[int]  # of tokens
    starts: Sequence[int]
    drafts: Sequence[int | None]
    follows: Sequence[int | None]
    long: list[bool]  # whether it has several known tokens, and so is no decode
    adapted: bool  # whether some request has a LoRA adapter
    scored: dict[int, tuple[int, ...]]  # chunk -> the prompt tokens that its rows predict, if they are to be scored

    @classmethod
    def of(cls, batch: Batch, states: Mapping[str, RequestState]) -> BatchColumns:
        chunks = batch.chunks
        ids, tokens, starts, _, drafts, _, follows = zip(*chunks, strict=True) if chunks else ((),) * 7
        requests, counts = [states[request_id] for request_id in ids], [*map(len, tokens)]
        long = [count - (guesses or 0) > 1 for count, guesses in zip(counts, drafts, strict=True)]
        asked = [place for place, request in enumerate(requests) if request.params.prompt_logprobs is not None]
        scored = {place: found for place in asked if (found := requests[place].scored(chunks[place]))}
        adapted = any(map(ADAPTER, requests))
        return cls(states, chunks, requests, ids, tokens, counts, starts, drafts, follows, long, adapted, scored)

    @property
    def ends(self) -> list[int]:
        """The position after each chunk's last token."""
        return [start + count for start, count in zip(self.starts, self.counts, strict=True)]
