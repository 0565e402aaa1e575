"""The protocols through which the core meets a clock, a machine, K/V memory, an opinion and an onlooker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orcinus.core.batch import Batch, BatchResult, BlockTables, Event, Submitted
from orcinus.core.request import Finish, Overlap, Request
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits, Selection, View


class Clock(Protocol):
    """Seconds since some fixed moment. A simulation's clock jumps."""

    def now(self) -> float: ...


class Executor(Protocol):
    """Runs batches, in order: a CPU, a GPU, ranks on many nodes, or a cost model.

    A failure while running is reported in `BatchResult.errors`, never raised out of `collect`.
    """

    @property
    def depth(self) -> int:
        """How many batches may be in flight: 1, or the number of pipeline stages (Orca's n_workers)."""
        ...

    @property
    def overlap(self) -> Overlap:
        """Which requests in flight the next batch may carry on.

        Chunks of a prompt need only batches that run in order, as in a pipeline. A decode may follow the last batch alone
        (`Chunk.follows`): its token is filled in where that batch draws it.
        """
        ...

    def submit(self, batch: Batch) -> None:
        """Take the batch's `removed`, `new` and new blocks into account, once, and start it or queue it."""
        ...

    def collect(self) -> BatchResult:
        """The result of the oldest batch in flight; waits for it."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class PrefixStats:
    """Tokens looked up and found in a prefix cache, and blocks it evicted.

    The first two are vLLM's prefix_cache_queries and prefix_cache_hits.
    """

    queries: int = 0
    hits: int = 0
    evictions: int = 0


class PacedExecutor(Executor, Protocol):
    """An executor whose batches end at moments of a clock of its own, as a simulation's do."""

    def due_in(self) -> float:
        """Seconds until the oldest batch in flight can be collected; 0 if it can be now, or if there is none."""
        ...

    def wake(self) -> None:
        """A request is about to come to an idle engine: the time since the last batch was a pause."""
        ...


class KVManager(Protocol):
    """Who owns which K/V blocks. Integers only: the tensors live in the runtime. Every method but the queries mutates."""

    @property
    def num_blocks(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def num_free(self) -> int: ...

    @property
    def preallocates(self) -> bool:
        """Whether admission takes room for a request's whole life, so that `grow` never fails."""
        ...

    @property
    def stats(self) -> PrefixStats | None:
        """What the prefix cache has found so far; None without one."""
        ...

    def can_ever_hold(self, request: Request) -> bool:
        """Whether it could be served with the whole pool to itself."""
        ...

    def can_admit(self, request: Request) -> bool: ...

    def ready(self, request: Request) -> bool:
        """Whether nothing is gained by waiting: false while another request computes a prefix that both share."""
        ...

    def admit(self, request: Request) -> int:
        """Take the blocks an admitted request starts with; returns how many tokens were found already computed."""
        ...

    def grow(self, request: Request, tokens: int) -> bool:
        """Make room for `tokens` more than `request.launched`. False, and nothing taken, if blocks are short."""
        ...

    def commit(self, request: Request) -> None:
        """Keys and values of `request.computed` tokens are now valid."""
        ...

    def release(self, request: Request) -> None:
        """Give every block of the request back. Without effect if it holds none."""
        ...

    def blocks(self, request: Request) -> BlockTables:
        """The request's block tables, one per group of layers; empty ones if it holds nothing."""
        ...


class Order(Protocol):
    """The queue of waiting requests, and who is first in it."""

    def rank(self, request: Request) -> float:
        """Its place among all requests as the order sees it now: the smaller, the sooner.

        The scheduler asks once, when a request is first admitted, and again only after a switch of the order. Of running
        requests the one with the largest rank gives way when memory is short.
        """
        ...

    def add(self, request: Request) -> None:
        """It waits, for the first time or again after a preemption."""
        ...

    def remove(self, request: Request) -> None:
        """It waits no longer, and was not served."""
        ...

    def admit(self, request: Request) -> None:
        """It waits no longer, because it runs."""
        ...

    def generated(self, request: Request, tokens: int) -> None:
        """A running request was given tokens."""
        ...

    def first(self, count: int) -> tuple[Request, ...]:
        """The first so many, in order."""
        ...

    def all(self) -> list[Request]:
        """Everyone, in any order."""
        ...

    def __len__(self) -> int: ...


class Policy(Protocol):
    """An opinion about the next iteration: a pure function of a snapshot.

    It may also have three attributes, each False if absent. `steady`: having run the whole view as decodes and admitted no
    request, it would do the same again until a request arrives or ends, however much time passes; simulations then decide
    once for many iterations. `pads_batches`: an iteration computes every slot of the batch, empty ones too. `preempts`: it
    may wish preemptions, so it sees the queue even when no place is free.
    """

    @property
    def holds_answers(self) -> bool:
        """Whether answers are handed out only when nothing runs any more (request-level batching)."""
        ...

    def select(self, view: View) -> Selection: ...


class Drafter(Protocol):
    """Guesses what a decode will generate, so that one iteration can verify several tokens (speculative decoding)."""

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        """At most `most` guesses for the tokens behind the newest known one."""
        ...


class Observer(Protocol):
    """An onlooker. It hears frozen values, cannot change anything, and is dropped if it raises.

    A subclass need only write the methods it wants; the others do nothing.
    """

    def on_submit(self, submitted: Submitted) -> None:
        """A request came to the door."""
        return

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        """A batch was handed to the executor; `unserved` says why other requests have no part in it."""
        return

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        """A batch came back. Its events follow in `on_events`."""
        return

    def on_cancel(self, request_id: str, reason: Finish, now: float) -> None:
        """Somebody asked for the end of a request."""
        return

    def on_use(self, policy: str, order: str, limits: Limits, now: float) -> None:
        """The engine was switched to this policy and order, as they are spelled, and these limits."""
        return

    def on_events(self, events: Sequence[Event]) -> None:
        """Tokens and endings, from an iteration or from a cancellation or rejection between two."""
        return

    def on_close(self) -> None:
        """The engine is closed: nothing follows."""
        return
