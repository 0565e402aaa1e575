"""What the two processes of a server tell each other: msgspec structs in MessagePack, never pickle."""

from __future__ import annotations

from typing import Any

import msgspec

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish, Logprobs, SamplingParams


class Submit(msgspec.Struct, tag="submit", array_like=True):
    """Queue a request. The id is the server's own, never a client's."""

    id: str
    prompt: list[int]
    params: dict[str, Any]
    priority: int = 0
    client: str = ""
    cache_salt: str = ""
    deadline: float | None = None  # seconds from now after which it is cancelled


class Cancel(msgspec.Struct, tag="cancel", array_like=True):
    """End a request; `stop` says that a stop string was found in its text."""

    id: str
    stop: bool = False


class Use(msgspec.Struct, tag="use", array_like=True):
    """Switch policy, order or limits between two iterations; the answer is `Using` or `Refused`."""

    policy: str | None = None
    order: str | None = None
    max_batch_size: int | None = None
    max_batch_tokens: int | None = None


class Stop(msgspec.Struct, tag="stop", array_like=True):
    """End the process, whatever is running."""


class Ready(msgspec.Struct, tag="ready", array_like=True):
    """The engine stands. What the HTTP side has to know about it."""

    max_model_len: int
    vocab_size: int
    kv_tokens: int
    num_blocks: int


class Failed(msgspec.Struct, tag="failed", array_like=True):
    """The engine could not be built or cannot go on."""

    reason: str


class Using(msgspec.Struct, tag="using", array_like=True):
    """How the engine decides now."""

    policy: str
    order: str
    max_batch_size: int
    max_batch_tokens: int


class Refused(msgspec.Struct, tag="refused", array_like=True):
    """A switch that was not made, and why."""

    reason: str


class NewToken(msgspec.Struct, array_like=True):
    """One token of one request."""

    id: str
    token: int
    at: float
    logprob: float | None = None
    rank: int = 0
    top: list[tuple[int, float]] = []


class Ending(msgspec.Struct, array_like=True):
    """A request's end."""

    id: str
    reason: str
    at: float
    error: str | None = None


class Progress(msgspec.Struct, array_like=True):
    """How much of a prompt has been read."""

    id: str
    computed: int
    cached: int


class Iteration(msgspec.Struct, tag="iteration", array_like=True):
    """Everything that one iteration led to, in one message; without content it is a sign of life."""

    at: float
    tokens: list[NewToken] = []
    endings: list[Ending] = []
    progress: list[Progress] = []
    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    seconds: float = 0.0


ToEngine = Submit | Cancel | Use | Stop
FromEngine = Ready | Failed | Using | Refused | Iteration

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
    asked = token.logprobs
    if asked is None:
        return NewToken(token.request_id, token.token, token.at)
    return NewToken(token.request_id, token.token, token.at, asked.logprob, asked.rank, list(asked.top))


def token_from_wire(wire: NewToken) -> Token:
    """The event again."""
    logprobs = None if wire.logprob is None else Logprobs(wire.logprob, wire.rank, tuple(wire.top))
    return Token(wire.id, wire.token, wire.at, logprobs)


def ending_from_wire(wire: Ending) -> Finished:
    """The event again."""
    return Finished(wire.id, Finish(wire.reason), wire.at, wire.error)
