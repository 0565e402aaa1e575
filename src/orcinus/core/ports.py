"""The core's protocols, from clock to observer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orcinus.core.batch import Batch, BatchResult, BlockTables, Event, StageRun, Submitted
from orcinus.core.request import Finish, Overlap, Request
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits, Selection, View


class Clock(Protocol):
    """Seconds since a fixed moment. A simulation's clock jumps."""

    def now(self) -> float: ...


class Executor(Protocol):
    """Runs batches in order, on any device or in a cost model.

    A failure while running is reported in `BatchResult.errors`; `collect` never raises it.
    """

    @property
    def depth(self) -> int:
        """How many batches may be in flight: the number of pipeline stages.

        It is 1 without a pipeline. Orca calls it n_workers.
        """
        ...

    @property
    def overlap(self) -> Overlap:
        """Which requests in flight the next batch may include.

        Chunks of a prompt need only batches that run in order, as in a pipeline. A decode may follow the last batch alone
        (`Chunk.follows`): its token is filled in where that batch draws it.
        """
        ...

    def submit(self, batch: Batch) -> None:
        """Apply the batch's `removed`, `new` and new blocks once, and start it.

        An executor may queue it instead.
        """
        ...

    def collect(self) -> BatchResult:
        """Wait for the oldest batch in flight and return its result."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class PrefixStats:
    """Prefix cache counts: tokens looked up, tokens found, blocks evicted.

    The first two are vLLM's prefix_cache_queries and prefix_cache_hits.
    """

    queries: int = 0
    hits: int = 0
    evictions: int = 0


class PacedExecutor(Executor, Protocol):
    """An executor with a clock of its own, such as a simulation's."""

    def due_in(self) -> float:
        """Seconds until the oldest batch in flight can be collected.

        0 if it can be collected now, or if there is none.
        """
        ...

    def wake(self) -> None:
        """Called before a request reaches an idle engine.

        The time since the last batch was a pause.
        """
        ...


class StagedExecutor(Executor, Protocol):
    """A pipeline that tells when each of its stages ran which batch, if asked to."""

    def time_stages(self, *, on: bool) -> None:
        """Keep the runs of batches that are submitted from now on, or no more."""
        ...

    def take_stage_runs(self) -> list[StageRun]:
        """The runs known since the last call; a batch's may come after its result."""
        ...


class Preparation(Protocol):
    """Work that some requests need before the scheduler hears of them, done elsewhere.

    An example is the compilation of a grammar in a thread.
    """

    def begin(self, request: Request) -> None:
        """Start the request's preparation. It never raises."""
        ...

    def ready(self, request: Request) -> bool:
        """Whether the preparation has ended, well or not."""
        ...

    def wait(self, requests: Sequence[Request], seconds: float) -> None:
        """Wait until one of the requests is ready, at most so long."""
        ...


class KVManager(Protocol):
    """Assigns K/V blocks to requests. Integers only: the runtime owns the tensors.

    Every method except the queries changes the manager.
    """

    @property
    def num_blocks(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def num_free(self) -> int: ...

    @property
    def preallocates(self) -> bool:
        """Whether admission reserves a request's whole life, so `grow` never fails."""
        ...

    @property
    def stats(self) -> PrefixStats | None:
        """The prefix cache's counts so far; None without a cache."""
        ...

    @property
    def longest(self) -> int:
        """The most tokens of one request that the whole pool could hold."""
        ...

    def can_admit(self, request: Request) -> bool: ...

    def cached(self, request: Request) -> int:
        """Tokens that an admission now would find computed."""
        ...

    def ready(self, request: Request) -> bool:
        """Whether waiting would gain nothing.

        False while another request computes a prefix that both share.
        """
        ...

    def admit(self, request: Request) -> int:
        """Take the blocks of an admitted request. Returns the tokens already computed."""
        ...

    def grow(self, request: Request, tokens: int) -> bool:
        """Make room for `tokens` more than `request.launched`.

        False, and nothing taken, if blocks are short.
        """
        ...

    def commit(self, request: Request) -> None:
        """Note that the keys and values of `request.computed` tokens are valid."""
        ...

    def release(self, request: Request) -> None:
        """Release every block of the request. Does nothing if it holds none."""
        ...

    def blocks(self, request: Request) -> BlockTables:
        """The request's block tables, one per group of layers.

        They are empty if it holds nothing.
        """
        ...


class Order(Protocol):
    """The queue of waiting requests, and its order."""

    def rank(self, request: Request) -> float:
        """The request's place among all requests; smaller is sooner.

        The scheduler asks once, when a request is first admitted, and again only after a switch of the order. When memory is
        short, the running request with the largest rank is preempted.
        """
        ...

    def add(self, request: Request) -> None:
        """The request starts to wait: it is new, or was preempted."""
        ...

    def remove(self, request: Request) -> None:
        """The request stops waiting, and was not served."""
        ...

    def admit(self, request: Request) -> None:
        """The request stops waiting, because it runs."""
        ...

    def generated(self, request: Request, tokens: int) -> None:
        """A running request was given tokens."""
        ...

    def first(self, count: int) -> tuple[Request, ...]:
        """The first `count` waiting requests, in order."""
        ...

    def all(self) -> list[Request]:
        """All waiting requests, in any order."""
        ...

    def __len__(self) -> int: ...


class Policy(Protocol):
    """Chooses the next iteration: a pure function of a snapshot.

    A policy may also have four attributes, each False if absent. `steady` promises to simulations: once the whole view
    decodes, and it admitted no request or no request can be admitted, it selects the whole view, in order, until a request
    arrives or ends, however much time passes, so that one decision covers many iterations. `pads_batches`: an iteration
    computes every slot of the batch, empty ones too. `preempts`: the policy may preempt, so it sees the queue even when no
    place is free. `pauses_decodes`: no decode runs in an iteration with prompts.
    """

    @property
    def holds_answers(self) -> bool:
        """Whether answers are returned only when nothing runs (request-level batching)."""
        ...

    def select(self, view: View) -> Selection: ...


class Drafter(Protocol):
    """Guesses the next tokens of a decode (speculative decoding).

    One iteration then verifies several tokens. A drafter may keep state of live requests, and never writes
    to a request. It may have an attribute `max_batch`: while more requests run, it is not asked.
    """

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        """At most `most` guesses for the tokens after the newest known one."""
        ...


class BoundedDrafter(Drafter, Protocol):
    """A drafter whose most drafts are known before it runs."""

    k: int  # drafts of one request in one iteration, at most
    max_batch: int  # running requests, at most


class Observer(Protocol):
    """Watches an engine: hears frozen values and changes nothing.

    An observer that raises is dropped. A subclass overrides only the methods it needs; the others do nothing.
    """

    def on_submit(self, submitted: Submitted) -> None:
        """A request was submitted. A rejection follows in `on_events`."""
        return

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        """A batch was handed to the executor.

        `unserved` says why other requests have no part in it.
        """
        return

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        """A batch came back. Its events follow in `on_events`."""
        return

    def on_cancel(self, request_id: str, reason: Finish, now: float) -> None:
        """The cancellation of a request was asked for."""
        return

    def on_use(self, policy: str, order: str, limits: Limits, now: float) -> None:
        """The engine was switched to this policy, order and limits.

        Policy and order are spelled as for `make_policy`.
        """
        return

    def on_events(self, events: Sequence[Event]) -> None:
        """Tokens and endings.

        They come from an iteration, or from a cancellation or rejection between two.
        """
        return

    def on_close(self) -> None:
        """The engine is closed; nothing follows."""
        return
