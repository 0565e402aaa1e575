"""All that a policy may know (View) and all that it may say (Selection)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orcinus.core.request import Request
from orcinus.core.step_time import StepTime
from orcinus.core.unserved import Reason
from orcinus.errors import ConfigError, shown


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings of the machine, for every iteration."""

    max_batch_size: int  # requests in one batch (Orca's max_bs)
    max_batch_tokens: int  # tokens in one batch
    max_model_len: int  # tokens of one request, prompt and output together
    lookahead: int = 512  # how far into the waiting queue a policy may see

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_batch_tokens", "max_model_len", "lookahead"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, not {shown(value)}")


@dataclass(frozen=True, slots=True)
class View:
    """The queues as they stand before an iteration. Its requests are the scheduler's own: a policy reads them only."""

    now: float
    running: Sequence[Request]  # hold K/V memory and are free to run, in the order of the queue
    waiting: Sequence[Request]  # hold none, in the order of the queue; as many as could be admitted, and some more
    num_waiting: int  # all that wait
    busy: int  # requests that run inside a batch in flight
    limits: Limits
    fits: Callable[[Request], bool]  # would this waiting request be admitted now?
    step_time: StepTime  # what iterations have taken so far


class Grant(NamedTuple):
    """A wish: run this request's pending tokens."""

    request: Request
    divisible: bool = False  # may be cut to fit the token budget (chunked prefill)
    at_most: int | None = None  # tokens in this iteration; None = all that are pending


@dataclass(frozen=True, slots=True)
class Selection:
    """Grants in the order in which to serve them, and the tokens they may spend together (None = the machine's limit).

    Grants may be made as they are asked for: the scheduler stops asking when the batch is full. Requests to `preempt` give
    way before the first grant is served; one in flight gives way when it is back, and is not carried on until then.
    """

    grants: Iterable[Grant]
    token_budget: int | None = None
    otherwise: Reason = Reason.NOT_CHOSEN  # why those that were not granted anything wait
    preempt: Iterable[Request] = ()  # running requests that lose their memory first, and wait again
