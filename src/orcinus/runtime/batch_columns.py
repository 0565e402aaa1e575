"""A batch's chunks by column, with the executor's state of each request.

Packing, scoring and sampling read tokens, positions and requests of all chunks. Reading a column takes less time than asking
each chunk in turn, and a batch has hundreds.
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
    """The columns, with one entry per chunk in the batch's order, and what follows from them."""

    states: Mapping[str, RequestState]  # all requests that the executor knows, by id
    chunks: tuple[Chunk, ...]
    requests: list[RequestState]
    ids: Sequence[str]
    tokens: Sequence[tuple[int, ...]]
    counts: list[int]  # of tokens
    starts: Sequence[int]
    ends: list[int]  # position after each chunk's last token
    drafts: Sequence[int | None]
    follows: Sequence[int | None]
    long: list[bool]  # whether it has several known tokens, and so is no decode
    adapted: bool  # whether some request has a LoRA adapter
    scored: dict[int, tuple[int, ...]]  # chunk -> the prompt tokens that its rows predict, if they are to be scored

    @classmethod
    def of(cls, batch: Batch, states: Mapping[str, RequestState]) -> BatchColumns:
        """The columns of a batch that was applied to `states`."""
        chunks = batch.chunks
        ids, tokens, starts, _, drafts, _, follows = zip(*chunks, strict=True) if chunks else ((),) * 7
        requests, counts = [states[request_id] for request_id in ids], [*map(len, tokens)]
        ends = [start + count for start, count in zip(starts, counts, strict=True)]
        long = [count - (guesses or 0) > 1 for count, guesses in zip(counts, drafts, strict=True)]
        asked = [place for place, request in enumerate(requests) if request.params.prompt_logprobs is not None]
        scored = {place: found for place in asked if (found := requests[place].scored(chunks[place]))}
        adapted = any(map(ADAPTER, requests))
        return cls(states, chunks, requests, ids, tokens, counts, starts, ends, drafts, follows, long, adapted, scored)
