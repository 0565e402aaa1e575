"""What crosses the seam: batches, their results, and events. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from orcinus.core.request import Failure, Finish, FinishCode, Logprobs, RequestContext
from orcinus.core.sampling_params import SamplingParams

BlockTables = tuple[tuple[int, ...], ...]  # one block table per group of layers


def in_turn(tables: BlockTables) -> list[int]:
    """The blocks of all groups in one list: those of each place side by side."""
    return [block for place in zip(*tables, strict=True) for block in place]


class NewRequest(NamedTuple):
    """A request new to the executor, or back after a preemption.

    It comes with the batch that holds its first chunk. The executor keeps it until its id stands in `Batch.removed`.
    """

    request_id: str
    prompt: tuple[int, ...]
    output: tuple[int, ...]  # generated so far: not empty after a preemption or a restart
    params: SamplingParams
    context: RequestContext
    blocks: BlockTables  # whole tables, the blocks of this batch's chunk included


class Chunk(NamedTuple):
    """One request's share of an iteration: `tokens`, starting at position `start`.

    A decode is a chunk of one token. A named tuple, because hundreds are made for every iteration; the scheduler makes them
    with `chunk_of`.
    """

    request_id: str
    tokens: tuple[int, ...]
    start: int  # position of the first token = tokens whose keys and values are already in memory
    new_blocks: BlockTables = ()  # per group: to append to the table that the executor knows; (): nothing
    drafts: int | None = 0  # None: sample nothing; else the last `drafts` tokens are guesses, and 1 to `drafts` + 1 are sampled
    prefill: bool = False  # whether the first token belongs to the prompt
    follows: int | None = None  # the last batch, if it samples this chunk's only token, still unknown

    @property
    def samples(self) -> bool:
        """Whether a token is sampled after the chunk's last one."""
        return self.drafts is not None

    @property
    def end(self) -> int:
        """Position after the last token: the sequence length that it attends to."""
        return self.start + len(self.tokens)


chunk_of: Callable[[Iterable[Any]], Chunk] = partial(tuple.__new__, Chunk)
"""A chunk of all its fields, in order, in a fifth of the time of `Chunk(...)`, which runs Python code."""


def pairs(start: int, tokens: int) -> int:
    """Query-key pairs in the attention of `tokens` tokens from position `start`.

    Each token attends to itself and to all before it.
    """
    return tokens * start + tokens * (tokens + 1) // 2


@dataclass(frozen=True, slots=True)
class Batch:
    """One iteration: its chunks, and what changed since the last batch.

    The chunks' tokens run as one flat batch. An executor applies `removed`, then `new`, then the chunks' `new_blocks`, once,
    before any work (`executor_state.RequestStates` does).
    """

    id: int
    chunks: tuple[Chunk, ...]
    new: tuple[NewRequest, ...] = ()
    removed: tuple[str, ...] = ()  # finished, cancelled or preempted requests whose last batch was collected

    @property
    def num_tokens(self) -> int:
        return sum(len(chunk.tokens) for chunk in self.chunks)

    @property
    def num_pairs(self) -> int:
        """Query-key pairs, on which the cost of attention depends."""
        return sum(pairs(chunk.start, len(chunk.tokens)) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """An executor's result: one row per chunk, in the batch's order."""

    batch_id: int
    tokens: tuple[tuple[int, ...], ...]  # per chunk: accepted drafts, then the sampled token; () if none is sampled
    logprobs: tuple[tuple[Logprobs, ...], ...] | None = None  # shaped like `tokens`; None if no request asked
    prompt_logprobs: Mapping[int, tuple[Logprobs, ...]] = field(default_factory=dict)  # row -> its prompt tokens'
    errors: Mapping[int, Failure] = field(default_factory=dict)  # row -> why this request failed


class StageRun(NamedTuple):
    """When a pipeline stage ran a batch, in seconds on the engine's clock."""

    batch: int
    stage: int
    began: float
    ended: float


def count_drafts(batch: Batch, result: BatchResult) -> tuple[int, int]:
    """Drafts that an iteration verified, and those that it accepted."""
    drafted = [
        (chunk.drafts, len(tokens) - 1) for chunk, tokens in zip(batch.chunks, result.tokens, strict=True) if chunk.drafts
    ]
    return sum(drafts for drafts, _ in drafted), sum(accepted for _, accepted in drafted if accepted > 0)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request entered the engine."""

    request_id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    at: float
    context: RequestContext = RequestContext()
    output: tuple[int, ...] = ()  # tokens that an earlier engine generated; this one continues after them


class Token(NamedTuple):
    """A request was given one more token.

    A named tuple, for the same reason as `Chunk`.
    """

    request_id: str
    token: int
    at: float
    logprobs: Logprobs | None = None
    prompt_logprobs: tuple[Logprobs, ...] | None = None  # of prompt[1:]; with the first token, if asked for


@dataclass(frozen=True, slots=True)
class Finished:
    """A request ended; no event of it follows.

    `code` and `error` say why, if it was rejected or failed.
    """

    request_id: str
    reason: Finish
    at: float
    error: str | None = None
    code: FinishCode | None = None


token_of: Callable[[Iterable[Any]], Token] = partial(tuple.__new__, Token)
"""A token event of all its fields, in order; see `chunk_of`."""

Event = Token | Finished
