"""A request: what the client asked for, and how far the engine has come with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, islice
from typing import overload

from orcinus.core.sampling_params import SamplingParams
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


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probabilities at one position, of the model's own distribution (before masks, penalties and temperature)."""

    logprob: float  # of the chosen token
    rank: int  # of the chosen token; 1 = the most likely
    top: tuple[tuple[int, float], ...]  # (token id, log-probability), the most likely first; of equals the chosen one


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


@dataclass(slots=True, eq=False)
class Request:
    """One request for its whole life. Only `Scheduler` assigns to it.

    Prefill, chunked prefill, decode and recomputation after a preemption are one rule: `computed`, the tokens whose keys
    and values are in memory, catches up with `known`, the tokens there are. Plans are made with what both will be when the
    batches in flight have come back: `launched` and `known + promised`.
    """

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams  # resolved: max_tokens and seed are set, and the model's end-of-text is in stop_token_ids
    arrival: float  # seconds on the engine's clock
    context: RequestContext = RequestContext()
    output: list[int] = field(default_factory=list)
    prompt_logprobs: list[Logprobs] = field(default_factory=list)  # of prompt[1:], as far as computed, if asked for
    computed: int = 0
    flying: int = 0  # tokens that batches in flight compute
    promised: tuple[int, ...] = ()  # ids of the batches in flight that will give it a token, in their order
    cached: int = 0  # tokens that were found computed when it was first admitted
    preemptions: int = 0
    newest_token: float | None = None  # when the last token came
    in_flight: int = 0  # batches that it is part of and that have not come back yet
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
    def launched(self) -> int:
        """What `computed` will be when the batches in flight have come back."""
        return self.computed + self.flying

    @property
    def pending(self) -> int:
        """Tokens the next iterations have to run before another one can be sampled."""
        return self.known + len(self.promised) - self.launched

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

    @property
    def goes_on(self) -> bool:
        """Whether a batch may follow those in flight without waiting for them: there is something to run, and it is known what.

        A penalty, or a bad word of several tokens, has to see the token that is promised; a request that is promised its last
        token has nothing to run.
        """
        ends = len(self.output) + len(self.promised) == self.params.max_tokens
        return not (self.promised and (ends or self.params.needs_history))

    def history(self) -> KnownTokens:
        """The tokens known now, without copying them."""
        return KnownTokens(self.prompt, self.output, self.known)

    def tokens(self, start: int, count: int) -> tuple[int, ...]:
        """`count` tokens from position `start`, across the border of prompt and output."""
        border, end = len(self.prompt), start + count
        if start >= border:
            return tuple(self.output[start - border : end - border])
        return self.prompt[start:end] + tuple(self.output[: max(0, end - border)])


class KnownTokens(Sequence[int]):
    """The first `length` tokens of a prompt and an output that may grow further: a frozen view, made in no time."""

    __slots__ = ("_length", "_output", "_prompt")

    def __init__(self, prompt: tuple[int, ...], output: list[int], length: int) -> None:
        self._prompt, self._output, self._length = prompt, output, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return islice(chain(self._prompt, self._output), self._length)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __getitem__(self, index: int | slice) -> int | tuple[int, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))
