"""A request: what the client asked for, and how far the engine has come with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from orcinus.core.sampling_params import ALL_FORBIDDEN, SamplingParams
from orcinus.errors import RequestError, shown

MOST_URGENT = 1_000_000


class Status(StrEnum):
    """Where a request is. Why it ended is `Finish`."""

    WAITING = "waiting"  # holds no K/V memory
    RUNNING = "running"  # holds K/V memory
    FINISHED = "finished"


class Finish(StrEnum):
    """Why a request ended."""

    STOP = "stop"  # a stop token (the model's end-of-text among them) or a stop string
    LENGTH = "length"  # max_tokens were generated
    CANCELLED = "cancelled"  # the client went away
    REJECTED = "rejected"  # it could never have been served
    FAILED = "failed"  # the executor could not compute it


class FinishCode(StrEnum):
    """What exactly went wrong with a request that was rejected, cancelled or failed. Programs read this, people the text."""

    NEVER_FITS = "never_fits"  # rejected: the whole K/V pool is too small for it
    TOO_LONG = "too_long"  # rejected: longer than the model's context
    DEADLINE = "deadline"  # cancelled: its time was over
    ALL_FORBIDDEN = "all_forbidden"  # failed: its parameters forbid every token
    BAD_LOGITS = "bad_logits"  # failed: the model's output is not finite
    OUT_OF_MEMORY = "out_of_memory"  # failed: its iteration did not fit into the device's memory
    EXECUTOR_FAILED = "executor_failed"  # failed: its iteration raised


class Failure(NamedTuple):
    """Why a request could not be served: for programs and for people."""

    code: FinishCode
    text: str


NOTHING_ALLOWED = Failure(FinishCode.ALL_FORBIDDEN, ALL_FORBIDDEN)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a request carries beside its prompt and sampling parameters.

    It travels whole from the caller to the engine: a new field stands here once. Raises `RequestError` for a value that is
    unusable.
    """

    priority: int = 0  # lower is more urgent, as in vLLM; for the order `priority`
    client: str = ""  # whose request it is; for the order `fair`
    cache_salt: str = ""  # requests share K/V blocks of equal prefixes only under equal salts

    def __post_init__(self) -> None:
        if not isinstance(self.priority, int) or isinstance(self.priority, bool) or abs(self.priority) > MOST_URGENT:
            raise RequestError(
                f"priority must be a whole number from -{MOST_URGENT} to {MOST_URGENT}, not {shown(self.priority)}"
            )
        for name in ("client", "cache_salt"):
            if not isinstance(getattr(self, name), str):
                raise RequestError(f"{name} must be a string, not {shown(getattr(self, name))}")


NO_CONTEXT = RequestContext()


class Overlap(NamedTuple):
    """What the next batch may carry on while it is in flight in an earlier one."""

    prefill: bool = False  # the next chunk of a prompt whose chunk before is in flight, in any batch
    decode: bool = False  # a decode whose token the last batch draws: the executor fills it in (`Chunk.follows`)


class Flight(NamedTuple):
    """A request's part of a batch in flight."""

    batch: int
    tokens: int  # that it certainly computes: the chunk without its drafts
    samples: bool
    drafts: int = 0


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probabilities at one position, of the model's own distribution (before masks, penalties and temperature)."""

    logprob: float  # of the chosen token
    rank: int  # of the chosen token; 1 = the most likely
    top: tuple[tuple[int, float], ...]  # (token id, log-probability), the most likely first; of equals the chosen one


@dataclass(slots=True, eq=False)
class Request:
    """One request for its whole life. Only the scheduler, with its admission and deltas, assigns to it.

    Prefill, chunked prefill, decode and recomputation after a preemption are one rule: `computed`, the tokens whose keys
    and values are in memory, catches up with `known`, the tokens there are. Plans are made with what both will be when the
    batches in flight have come back: `launched` and `known + promised`. Drafts are not known.
    """

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams  # resolved: max_tokens and seed are set, and the model's end-of-text is in stop_token_ids
    arrival: float  # seconds on the engine's clock
    context: RequestContext = NO_CONTEXT
    output: list[int] = field(default_factory=list)
    prompt_logprobs: list[Logprobs] = field(default_factory=list)  # of prompt[1:], as far as computed, if asked for
    computed: int = 0
    flights: tuple[Flight, ...] = ()  # the batches in flight that it is part of, the oldest first
    sent: tuple[tuple[int, ...], ...] | None = None  # the block tables that executors know; None: they know no such request
    preemptions: int = 0
    leaving: bool = False  # its policy wished it preempted: that happens when it is not in flight any more
    newest_token: float | None = None  # when the last token came
    number: int = 0  # how many requests were submitted up to this one: decides between equal arrivals
    rank: float = 0.0  # its place in the queue's order when it was first admitted; see `precedence`
    status: Status = Status.WAITING
    finish: Finish | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise RequestError("the prompt is empty: give at least one token")
        if self.params.max_tokens is None:
            raise RequestError("max_tokens is not resolved: the engine must know how long a request can become")
        if len(self.output) >= self.params.max_tokens:
            raise RequestError(f"its output has {len(self.output)} tokens already, of max_tokens {self.params.max_tokens}")
        if self.params.n != 1:
            raise RequestError("a request is one answer: make n requests for n answers")

    @property
    def known(self) -> int:
        """Tokens there are: the prompt and what was generated."""
        return len(self.prompt) + len(self.output)

    @property
    def in_flight(self) -> int:
        """Batches that it is part of and that have not come back yet."""
        return len(self.flights)

    @property
    def launched(self) -> int:
        """What `computed` will be, at least, when the batches in flight have come back."""
        if not self.flights:  # as mostly
            return self.computed
        return self.computed + sum(flight.tokens for flight in self.flights)

    @property
    def promised(self) -> int:
        """Tokens that the batches in flight will give it, at least."""
        return sum(flight.samples for flight in self.flights)

    @property
    def pending(self) -> int:
        """Tokens the next iterations have to run before another one can be sampled."""
        if not self.flights:
            return len(self.prompt) + len(self.output) - self.computed
        return self.known + self.promised - self.launched

    @property
    def max_known(self) -> int:
        """The most tokens it may hold when it is done (Orca's `max_tokens`): prompt + max_tokens."""
        assert self.params.max_tokens is not None
        return len(self.prompt) + self.params.max_tokens

    @property
    def precedence(self) -> tuple[float, float, int]:
        """Which of two running requests keeps its K/V memory: the one with the smaller value."""
        return self.rank, self.arrival, self.number

    @property
    def decoding(self) -> bool:
        """Whether only the newest generated token is pending."""
        return self.pending == 1 and bool(self.output or self.promised)

    def schedulable_ahead(self, overlap: Overlap, last_batch: int) -> bool:
        """Whether the next batch may carry it on although it is in flight.

        The rest of a prompt is known. A token that is promised may be followed only in the very next batch, unless it is
        the last one, or the next has to be chosen with it in sight (penalties, bad words of several tokens, drafts).
        """
        if self.finish or self.leaving or not (overlap.prefill or overlap.decode):
            return False
        if not any(flight.samples for flight in self.flights):
            return overlap.prefill
        newest = self.flights[-1]
        ends = len(self.output) + self.promised == self.params.max_tokens
        follows = newest.batch == last_batch and not newest.drafts
        return overlap.decode and follows and not ends and not self.params.needs_history

    def tokens(self, start: int, count: int) -> tuple[int, ...]:
        """`count` tokens from position `start`, across the border of prompt and output."""
        border, end = len(self.prompt), start + count
        if start >= border and count == 1:  # a decode
            return (self.output[start - border],)
        if start >= border:
            return tuple(self.output[start - border : end - border])
        return self.prompt[start:end] + tuple(self.output[: max(0, end - border)])
