"""What crosses the seam: a Batch goes to the executor, a BatchResult comes back, and the world hears events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from orcinus.core.request import Finish, Logprobs, RequestContext
from orcinus.core.sampling_params import SamplingParams


class Chunk(NamedTuple):
    """One request's share of an iteration: run `tokens` from position `start`. A decode is a chunk of one token.

    A named tuple, because hundreds are made for every iteration, and a frozen dataclass takes three times as long.
    """

    request_id: str
    tokens: tuple[int, ...]
    start: int  # position of the first token = tokens whose keys and values are already in memory
    blocks: tuple[int, ...]  # K/V block table: position p lies in blocks[p // block_size]
    samples: bool  # whether the last token's logits choose the next token (false in the middle of a prompt)
    params: SamplingParams
    history: Sequence[int] = ()  # every known token, given only if params.needs_history or `scored`
    prompt_length: int = 0  # how many of the known tokens are the prompt
    follows: int | None = None  # the batch in flight that samples its only token, which is not known yet; None: it is known

    @property
    def end(self) -> int:
        """Position after the last token = the length of the sequence it attends to."""
        return self.start + len(self.tokens)

    @property
    def banned(self) -> set[int]:
        """Tokens that may not be sampled for it."""
        return self.params.banned(self.end - self.prompt_length, self.history)

    @property
    def scored(self) -> int:
        """How many of its tokens have to say how likely the prompt's next token was: the first so many."""
        if self.params.prompt_logprobs is None:
            return 0
        return max(0, min(self.end, self.prompt_length - 1) - self.start)


def pairs(start: int, tokens: int) -> int:
    """How many tokens `tokens` tokens from position `start` attend to, all together, themselves included."""
    return tokens * start + tokens * (tokens + 1) // 2


class Reason(StrEnum):
    """Why a request has no part in an iteration."""

    BATCH_FULL = "batch full"
    BUDGET_SPENT = "budget spent"
    NO_BLOCKS = "no blocks"
    BEHIND = "behind an older request"
    NOT_READY = "not ready"  # a request before it computes a prefix that both share
    STATIC_BATCH = "static batch running"
    PROMPTS_FIRST = "prompts first"
    ONE_PROMPT = "one prompt at a time"
    LATENCY = "latency target"
    PREEMPTED = "preempted"
    NOT_CHOSEN = "not chosen"


@dataclass(frozen=True, slots=True)
class Unserved:
    """Who had no part in an iteration, why, and how full the engine was when it was planned."""

    reasons: Mapping[str, Reason]  # of those that hold K/V memory and could have run, and of those that were refused
    others: Reason  # of everybody else in the queue
    num_waiting: int
    num_running: int
    free_blocks: int


NOBODY = Unserved(MappingProxyType({}), Reason.NOT_CHOSEN, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """One iteration: the chunks whose tokens run as one flat batch."""

    id: int
    chunks: tuple[Chunk, ...]
    unserved: Unserved = NOBODY  # for onlookers; executors have no use for it

    @property
    def num_tokens(self) -> int:
        return sum(len(chunk.tokens) for chunk in self.chunks)

    @property
    def num_pairs(self) -> int:
        """Pairs of a token and one that it attends to: what attention costs."""
        return sum(pairs(chunk.start, len(chunk.tokens)) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What an executor returns for a batch, row by row in the order of its chunks."""

    batch_id: int
    tokens: tuple[tuple[int, ...], ...]  # () for a chunk that does not sample; more than one if speculative
    logprobs: tuple[tuple[Logprobs, ...], ...] | None = None  # shaped like `tokens`; None if nobody asked
    prompt_logprobs: Mapping[int, tuple[Logprobs, ...]] = field(default_factory=dict)  # row -> of `scored` prompt tokens
    errors: Mapping[int, str] = field(default_factory=dict)  # row -> why this request failed


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request entered the engine."""

    request_id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    at: float
    context: RequestContext = RequestContext()
    output: tuple[int, ...] = ()  # tokens that an earlier engine generated: this one continues behind them


class Token(NamedTuple):
    """A request was given one more token. (A named tuple for the same reason as `Chunk`.)"""

    request_id: str
    token: int
    at: float
    logprobs: Logprobs | None = None
    prompt_logprobs: tuple[Logprobs, ...] | None = None  # of prompt[1:], with the first token, if they were asked for


@dataclass(frozen=True, slots=True)
class Finished:
    """A request ended; nothing follows. `error` says why, if it was rejected or failed."""

    request_id: str
    reason: Finish
    at: float
    error: str | None = None


Event = Token | Finished


def at_moment(event: Event, now: float) -> Event:
    """The event as it is heard if it was held back until now."""
    return replace(event, at=now) if isinstance(event, Finished) else event._replace(at=now)
