"""Raw times of every request and iteration of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple


class RequestOutcome(StrEnum):
    """How a request ended. Only `ok` ones have latencies."""

    OK = "ok"
    WRONG_LENGTH = "wrong length"  # another number of output tokens than asked for
    REJECTED = "rejected"  # 429 or 503: the server refused it
    FAILED = "failed"  # any other error that the server reported
    MALFORMED = "malformed"  # the answer was malformed
    RESET = "reset"  # the connection ended early, or could not be opened
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request; times are seconds after the start of the run.

    `times` has one entry per output token. If the number of tokens in each frame of a stream is unknown, `timed` is
    "frames" and `times` has one per frame. `output_tokens` is None if the server never said how many there were.
    """

    number: int  # its place in the workload, from 0
    prompt_tokens: int
    output_tokens: int | None
    due: float  # when it was due
    sent: float  # when it was sent; equal to `due` without a client
    ended: float
    times: tuple[float, ...] = ()
    timed: Literal["tokens", "frames"] = "tokens"
    outcome: RequestOutcome = RequestOutcome.OK
    error: str = ""
    output: str = ""  # hash of its token ids, or of its text
    cached_tokens: int | None = None  # prompt tokens found in the prefix cache; None if the server does not say


class Iteration(NamedTuple):
    """One iteration; times are seconds after the start of the run."""

    launched: float
    returned: float
    requests: int
    prefill_tokens: int
    decode_tokens: int
    waiting: int
    running: int
    free_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDelay:
    """The client's own delay in seconds; latencies include it."""

    send_p50: float  # sending: sent minus due
    send_p99: float
    send_max: float
    loop_p50: float  # reading: a timer's callback minus its due time
    loop_p99: float
    loop_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """One run of one workload on one system."""

    round: int  # sides take turns: runs of equal rounds follow each other
    seconds: float  # from the start to the last ending
    requests: tuple[RequestRecord, ...]
    iterations: tuple[Iteration, ...] = ()
    slots: int | None = None  # max_batch_size
    client: ClientDelay | None = None
    problems: tuple[str, ...] = ()  # why it must not be believed; empty if it is valid
    partial: bool = False  # Ctrl-C ended it: requests are missing
    load: float | None = None  # the machine's load average of a minute, before it began
    counters: dict[str, float] = field(default_factory=dict)  # other counts of the system: preemptions, prefix cache hits
    draw: int = 0  # repeats of one draw had equal prompts; other draws have other tokens of equal lengths

    @property
    def valid(self) -> bool:
        return not self.problems
