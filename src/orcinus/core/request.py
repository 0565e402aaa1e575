"""A request: what the client asked for, and its progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from orcinus.core.sampling_params import ALL_FORBIDDEN, SamplingParams
from orcinus.core.slo import SLO
from orcinus.errors import RequestError, shown

MOST_URGENT = 1_000_000


class Status(StrEnum):
    """A request's place in the engine. `Finish` says why it ended."""

    WAITING = "waiting"  # holds no K/V memory
    RUNNING = "running"  # holds K/V memory
    FINISHED = "finished"


class Finish(StrEnum):
    """Why a request ended."""

    STOP = "stop"  # a stop token (the model's end-of-text among them) or a stop string
    LENGTH = "length"  # max_tokens were generated
    CANCELLED = "cancelled"  # the client went away
    REJECTED = "rejected"  # it can never be served
    FAILED = "failed"  # the executor could not compute it


class FinishCode(StrEnum):
    """The exact reason for a rejection, cancellation or failure.

    Programs read the code, people read the text.
    """

    NEVER_FITS = "never_fits"  # rejected: the whole K/V pool is too small for it
    TOO_LONG = "too_long"  # rejected: longer than the model's context
    DEADLINE = "deadline"  # cancelled: its deadline has passed
    SHUTDOWN = "shutdown"  # cancelled: the server leaves
    UNREAD = "unread"  # cancelled: its reader is too far behind
    ALL_FORBIDDEN = "all_forbidden"  # failed: its parameters forbid every token
    BAD_GRAMMAR = "bad_grammar"  # failed: its grammar became too complex to follow
    BAD_LOGITS = "bad_logits"  # failed: the model's output is not finite
    OUT_OF_MEMORY = "out_of_memory"  # failed: its iteration did not fit into the device's memory
    EXECUTOR_FAILED = "executor_failed"  # failed: its iteration raised
    ENGINE_DIED = "engine_died"  # failed: its engine, the last one, is gone
    ENGINES_DIED = "engines_died"  # failed: engines died whenever they computed it


class Failure(NamedTuple):
    """Why a request could not be served: a code and a text."""

    code: FinishCode
    text: str


NOTHING_ALLOWED = Failure(FinishCode.ALL_FORBIDDEN, ALL_FORBIDDEN)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request's fields besides its prompt and sampling parameters.

    The object travels whole from the caller to the engine, so a new field is declared once, here. Raises `RequestError` for
    an unusable value.
    """

    priority: int = 0  # lower is more urgent, as in vLLM; for the order `priority`
    client: str = ""  # whose request it is; for the order `fair`
    cache_salt: str = ""  # requests share K/V blocks of equal prefixes only under equal salts
    lora: str = ""  # the LoRA adapter that answers; "" = the model alone
    slo: SLO | None = None  # bounds on its own latencies: `ttft`, `tbt`, `tpot`, `e2e`

    def __post_init__(self) -> None:
        if not isinstance(self.priority, int) or isinstance(self.priority, bool) or abs(self.priority) > MOST_URGENT:
            raise RequestError(
                f"priority must be a whole number from -{MOST_URGENT} to {MOST_URGENT}, not {shown(self.priority)}"
            )
        for name in ("client", "cache_salt", "lora"):
            if not isinstance(getattr(self, name), str):
                raise RequestError(f"{name} must be a string, not {shown(getattr(self, name))}")

    @property
    def prefix_key(self) -> str:
        """Equal for requests whose equal tokens have equal keys and values, and may share them."""
        return f"{len(self.lora)}:{self.lora}{self.cache_salt}"


NO_CONTEXT = RequestContext()


class Overlap(NamedTuple):
    """Which requests in flight the next batch may include."""

    prefill: bool = False  # the next chunk of a prompt whose last chunk is in flight
    decode: bool = False  # a decode whose token the last batch samples; the executor fills it in (`Chunk.follows`)


class Flight(NamedTuple):
    """A request's part of a batch in flight."""

    batch: int
    tokens: int  # tokens certain to be computed: the chunk without its drafts
    samples: bool  # whether these are all pending tokens, so that the next one is sampled
    drafts: tuple[int, ...] = ()  # guesses, run after these tokens


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probabilities at one position.

    They are of the model's own distribution, before masks, penalties and temperature.
    """

    logprob: float  # of the chosen token
    rank: int  # of the chosen token; 1 = the most likely
    top: tuple[tuple[int, float], ...]  # (token id, log-probability), most likely first; the sampled one wins ties


@dataclass(slots=True, eq=False, weakref_slot=True)
class Request:
    """One request for its whole life.

    Only the scheduler, with its admission, `advance` and deltas, assigns to it. Prefill, chunked prefill, decode and
    recomputation after a preemption are one rule: `computed` catches up with `known`. `computed` counts the tokens whose
    keys and values are in memory, `known` counts prompt and output. Plans use the values that both will have when the
    batches in flight have returned: `launched` and `known + promised`. Drafts do not count as known.
    """

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams  # resolved: max_tokens and seed are set, and the model's end-of-text is in stop_token_ids
    arrival: float  # seconds on the engine's clock
    context: RequestContext = NO_CONTEXT
    output: list[int] = field(default_factory=list)
    prompt_logprobs: list[Logprobs] = field(default_factory=list)  # of prompt[1:], as far as computed; if asked for
    computed: int = 0
    flights: tuple[Flight, ...] = ()  # its parts of the batches in flight, oldest first
    sent: tuple[tuple[int, ...], ...] | None = None  # the block tables that executors know; None: they do not know it
    preemptions: int = 0
    leaving: bool = False  # the policy preempted it: done when its batch returns
    newest_token: float | None = None  # when the last token came
    number: int = 0  # number of its submission; breaks ties of arrival
    rank: float = 0.0  # its rank in the queue's order at first admission; see `precedence`
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
        """Number of tokens so far: prompt and output."""
        return len(self.prompt) + len(self.output)

    @property
    def in_flight(self) -> int:
        """Number of batches in flight that it is part of."""
        return len(self.flights)

    @property
    def launched(self) -> int:
        """The least that `computed` will be when the batches in flight return."""
        launched = self.computed
        for flight in self.flights:
            launched += flight.tokens
        return launched

    @property
    def promised(self) -> int:
        """Tokens that the batches in flight will add, at least."""
        return sum(flight.samples for flight in self.flights)

    @property
    def pending(self) -> int:
        """Tokens to run before the next one can be sampled."""
        if not self.flights:
            return len(self.prompt) + len(self.output) - self.computed
        return self.known + self.promised - self.launched

    @property
    def max_known(self) -> int:
        """The most tokens it can have: prompt + max_tokens (Orca's `max_tokens`)."""
        assert self.params.max_tokens is not None
        return len(self.prompt) + self.params.max_tokens

    @property
    def precedence(self) -> tuple[float, float, int]:
        """Sort key of running requests: the smaller one keeps its K/V memory."""
        return self.rank, self.arrival, self.number

    @property
    def decoding(self) -> bool:
        """Whether only the newest generated token is pending."""
        if not self.flights:
            return len(self.prompt) + len(self.output) - self.computed == 1 and bool(self.output)
        return self.pending == 1 and bool(self.output or self.promised)

    def schedulable_ahead(self, overlap: Overlap, last_batch: int) -> bool:
        """Whether the next batch may include it although it is in flight.

        The rest of a prompt is known, so its next chunk may run. A decode may run only if the last batch samples the token
        before it, that token is not the request's last, and sampling the next one does not depend on it (as with
        penalties, bad words of several tokens, and drafts).
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
        """`count` tokens from position `start`, out of prompt and output."""
        border, end = len(self.prompt), start + count
        if start >= border and count == 1:  # a decode
            return (self.output[start - border],)
        if start >= border:
            return tuple(self.output[start - border : end - border])
        return self.prompt[start:end] + tuple(self.output[: max(0, end - border)])
