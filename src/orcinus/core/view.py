"""What a policy may know (View) and what it may say (Selection)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from orcinus.core.request import Request
from orcinus.core.step_time import StepTime
from orcinus.core.unserved import Reason
from orcinus.errors import ConfigError, shown


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of every iteration."""

    max_batch_size: int  # requests in one batch (Orca's max_bs)
    max_batch_tokens: int  # tokens in one batch
    max_model_len: int  # tokens of one request, prompt and output together
    lookahead: int = 512  # how far into the waiting queue a policy may see

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_batch_tokens", "max_model_len", "lookahead"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, not {shown(value)}")


class View(NamedTuple):
    """The queues before an iteration.

    Its requests are the scheduler's own: a policy must not write to them.
    """

    now: float
    running: Sequence[Request]  # hold K/V memory and may run now, in the queue's order
    waiting: Sequence[Request]  # hold none; the first of the queue, more than could be admitted
    num_waiting: int  # waiting requests in all
    busy: int  # running requests that are in flight and may not run now
    limits: Limits
    fits: Callable[[Request], bool]  # whether a waiting request would be admitted now
    step_time: StepTime  # predicts the seconds of an iteration
    number: int = 0  # of batches so far


class Grant(NamedTuple):
    """Asks to run a request's pending tokens."""

    request: Request
    divisible: bool = False  # may be cut to fit the token budget (chunked prefill)
    at_most: int | None = None  # tokens in this iteration; None = all that are pending


_grant_of: Callable[[Iterable[Any]], Grant] = partial(tuple.__new__, Grant)  # like `batch.chunk_of`


def grants(requests: Iterable[Request], *, divisible: bool = False, at_most: int | None = None) -> Iterator[Grant]:
    """One grant for each request, lazily."""
    return map(_grant_of, zip(requests, repeat(divisible), repeat(at_most)))


class Selection(NamedTuple):
    """A policy's choice: grants in the order in which to serve them.

    Together they may spend `token_budget` tokens (None = the machine's limit). `grants` may be lazy: the scheduler stops
    reading when the batch is full. Requests in `preempt` give way before the first grant is served; one that is in flight
    gives way when its batch returns, and is not scheduled until then.
    """

    grants: Iterable[Grant]
    token_budget: int | None = None
    otherwise: Reason = Reason.NOT_CHOSEN  # why requests without a grant wait
    preempt: Iterable[Request] = ()  # running requests to preempt before any grant is served
