"""What the two processes of a server tell each other: msgspec structs in MessagePack, never pickle."""

from __future__ import annotations

from typing import Any

import msgspec

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish, Logprobs, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.observe.timeline import Timeline


class Submit(msgspec.Struct, tag="submit", array_like=True):
    """Queue a request. The id is the server's own, never a client's."""

    id: str
    prompt: list[int]
    params: dict[str, Any]
    context: RequestContext = RequestContext()
    deadline: float | None = None  # seconds from now after which it is cancelled


class Cancel(msgspec.Struct, tag="cancel", array_like=True):
    """End a request; `stop` says that a stop string was found in its text."""

    id: str
    stop: bool = False


class Pause(msgspec.Struct, tag="pause", array_like=True):
    """Start no more iterations, or go on. Requests wait meanwhile, and can still be cancelled or run out of time."""

    paused: bool


class Use(msgspec.Struct, tag="use", array_like=True):
    """Switch policy, order or limits between two iterations; the answer is `Using` or `Refused`."""

    policy: str | None = None
    order: str | None = None
    max_batch_size: int | None = None
    max_batch_tokens: int | None = None


class Ask(msgspec.Struct, tag="ask", array_like=True):
    """Where the time of a request went; the answer is `Life` or `Refused`."""

    id: str


class Stop(msgspec.Struct, tag="stop", array_like=True):
    """End the process, whatever is running."""


class Loading(msgspec.Struct, tag="loading", array_like=True):
    """How far the model is loaded."""

    stage: str
    done: int  # bytes
    total: int


class Ready(msgspec.Struct, tag="ready", array_like=True):
    """The engine stands. What the HTTP side has to know about it."""

    max_model_len: int
    vocab_size: int
    kv_tokens: int
    num_blocks: int
    revision: str | None = None  # the commit of a hub repository
    kv_manager: str = "paged"
    dtype: str = "auto"  # of the K/V cache

    @property
    def block_size(self) -> int:
        """Tokens of one block."""
        return self.kv_tokens // self.num_blocks


class Failed(msgspec.Struct, tag="failed", array_like=True):
    """The engine could not be built or cannot go on."""

    reason: str


class Using(msgspec.Struct, tag="using", array_like=True):
    """How the engine decides now, and how full it is."""

    policy: str
    order: str
    max_batch_size: int
    max_batch_tokens: int
    paused: bool
    running: int
    waiting: int
    free_blocks: int


class Refused(msgspec.Struct, tag="refused", array_like=True):
    """A switch that was not made, or a question without an answer, and why."""

    reason: str


class Life(msgspec.Struct, tag="life", array_like=True):
    """Where the time of a request went (`observe.timeline`). The seconds of the stages add up to its life so far."""

    id: str
    stages: dict[str, float]
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    prefill_iterations: int
    decode_iterations: int
    preemptions: int
    waits: dict[str, int]  # iterations it had no part in, by the reason
    finish: str | None = None  # None = it has not ended

    @property
    def seconds(self) -> float:
        """From its arrival to its end, or until now."""
        return sum(self.stages.values())


class Scores(msgspec.Struct, array_like=True):
    """Log-probabilities of one token and of likely ones in its place."""

    logprob: float
    rank: int
    top: list[tuple[int, float]]


class NewToken(msgspec.Struct, array_like=True):
    """One token of one request."""

    id: str
    token: int
    at: float
    scores: Scores | None = None
    prompt: list[Scores] | None = None  # of the prompt's tokens but the first


class Ending(msgspec.Struct, array_like=True):
    """A request's end."""

    id: str
    reason: str
    at: float
    error: str | None = None
    life: Life | None = None


class Ran(msgspec.Struct, array_like=True):
    """One request's share of an iteration."""

    id: str
    start: int
    tokens: int
    prefill: bool


class Launch(msgspec.Struct, array_like=True):
    """A batch as it was planned: who took part, who did not and why, and how full the engine was."""

    batch: int
    at: float
    budget: int  # most tokens it could have had
    ran: list[Ran]
    reasons: dict[str, str]
    others: str  # the reason of everybody else in the queue
    waiting: int
    running: int
    free_blocks: int


class Iteration(msgspec.Struct, tag="iteration", array_like=True):
    """Everything that one iteration led to, in one message; without content it is a sign of life."""

    at: float
    tokens: list[NewToken] = []
    endings: list[Ending] = []
    launched: list[Launch] = []
    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    seconds: float = 0.0  # that the iteration took


ToEngine = Submit | Cancel | Pause | Use | Ask | Stop
FromEngine = Loading | Ready | Failed | Using | Refused | Life | Iteration

encode = msgspec.msgpack.Encoder().encode
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine).decode


def params_to_wire(params: SamplingParams) -> dict[str, Any]:
    """Only what differs from the defaults."""
    found = {}
    for name, field in SamplingParams.__dataclass_fields__.items():
        value = getattr(params, name)
        if name == "logit_bias":
            value = dict(value)
        if value not in (field.default, (), {}):
            found[name] = value
    return found


def params_from_wire(wire: dict[str, Any]) -> SamplingParams:
    """The parameters again. Raises `RequestError` if they are unusable."""
    return SamplingParams(**wire)


def token_to_wire(token: Token) -> NewToken:
    """A token event as a message."""
    if token.logprobs is None and token.prompt_logprobs is None:
        return NewToken(token.request_id, token.token, token.at)
    scores = None if token.logprobs is None else _scores(token.logprobs)
    prompt = None if token.prompt_logprobs is None else [_scores(one) for one in token.prompt_logprobs]
    return NewToken(token.request_id, token.token, token.at, scores, prompt)


def token_from_wire(wire: NewToken) -> Token:
    """The event again."""
    logprobs = None if wire.scores is None else _logprobs(wire.scores)
    prompt = None if wire.prompt is None else tuple(_logprobs(one) for one in wire.prompt)
    return Token(wire.id, wire.token, wire.at, logprobs, prompt)


def _scores(one: Logprobs) -> Scores:
    return Scores(one.logprob, one.rank, list(one.top))


def _logprobs(one: Scores) -> Logprobs:
    return Logprobs(one.logprob, one.rank, tuple(one.top))


def ending_from_wire(wire: Ending) -> Finished:
    """The event again."""
    return Finished(wire.id, Finish(wire.reason), wire.at, wire.error)


def life(timeline: Timeline) -> Life:
    """A timeline as a message."""
    t = timeline
    return Life(
        t.request_id,
        {stage.value: seconds for stage, seconds in t.seconds.items()},
        t.prompt_tokens,
        t.cached_tokens,
        t.output_tokens,
        t.prefill_iterations,
        t.decode_iterations,
        t.preemptions,
        {reason.value: count for reason, count in t.waits.items()},
        None if t.finish is None else t.finish.value,
    )
