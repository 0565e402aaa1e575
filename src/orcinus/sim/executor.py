"""An executor that computes each batch's time and its stages' bubbles."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orcinus.core.batch import Batch, BatchResult, Chunk, Event, Finished
from orcinus.core.ports import Observer
from orcinus.core.scheduler import NO_OVERLAP
from orcinus.core.unserved import Unserved
from orcinus.cost.work import CostModel, IterationWork, work_of
from orcinus.observe.distribution import Distribution
from orcinus.sim.clock import VirtualClock
from orcinus.sim.jitter import Jitter
from orcinus.sim.repeats import MADE_UP, RepeatedBatch, RepeatedResult

END = MADE_UP + 1  # the token that ends an answer before max_tokens
MADE_UP_ROW = (MADE_UP,)


@dataclass(slots=True)
class _Flight:
    """A batch in flight, and when its iterations end."""

    batch: Batch
    ends: list[float]  # of every iteration that it stands for


class SimulatedExecutor:
    """A pipeline of stages on a virtual clock, with made-up tokens.

    Each stage runs one batch at a time, in the order of submission. `depth` is how many batches may be in flight; by default
    the number of stages (Orca's n_workers). A batch enters a stage when it has left the previous one and the stage is free.
    Time passes in `collect`: the clock jumps to the end of the oldest batch.

    On a single stage with one batch in flight, a batch may stand for several iterations (`RepeatedBatch`).

    A stage that waits while a batch is in flight has a bubble (SARATHI, section 3.3). Each request of a batch is charged with
    the bubbles before that batch, over all stages.

    With `slots` every iteration costs as much as one with that many requests: an engine with a fixed batch size goes on
    computing for finished requests (Orca, section 2 and figure 3), and pads a batch that was never full.

    `jitter` multiplies the times that the cost model predicts; None leaves them as they are.
    """

    def __init__(
        self, cost: CostModel, clock: VirtualClock, depth: int | None = None, slots: int = 0, jitter: Jitter | None = None
    ) -> None:
        self.cost, self.clock, self.slots, self.jitter = cost, clock, slots, jitter
        self._iterations = 0  # begun, which jitter is drawn by
        self.depth = depth or cost.num_stages
        self.overlap = NO_OVERLAP  # a stage starts a request when the last stage is done with it, as in Orca
        self._prompts: dict[str, int] = {}  # tokens of the prompts of live requests
        self.busy = [0.0] * cost.num_stages  # seconds that each stage has worked
        self.bubbles = [0.0] * cost.num_stages  # seconds that each stage waited although a batch was in flight
        self.newest_bubbles = 0.0  # before the batch submitted last, over all stages
        self.answers: dict[str, int] = {}  # request -> output tokens, for requests that end before max_tokens
        self._free = [0.0] * cost.num_stages  # when each stage finishes its queue
        self._flights: deque[_Flight] = deque()

    @property
    def next_end(self) -> float | None:
        """When the oldest batch in flight ends; None without one."""
        return self._flights[0].ends[-1] if self._flights else None

    def submit(self, batch: Batch) -> None:
        now = self.clock.now()
        for request_id in batch.removed:
            del self._prompts[request_id]
        paused = not self._prompts and now > max(self._free)  # a live clock may lag while requests run
        if not self._flights:
            self._free = [max(now, free) for free in self._free]  # it was idle: waiting for work is no bubble
        self._prompts |= {new.request_id: len(new.prompt) for new in batch.new}
        self.newest_bubbles = 0.0
        work = work_of(self._padded(batch))
        if paused:
            work = work._replace(paused=True)
        ends = self._repeat(work, now, self._most(batch)) if isinstance(batch, RepeatedBatch) else [self._pass(work, now)]
        self._flights.append(_Flight(batch, ends))

    def _padded(self, batch: Batch) -> Batch:
        """The batch, padded to all slots with copies of its first chunk."""
        empty = self.slots - len(batch.chunks)
        return replace(batch, chunks=batch.chunks + batch.chunks[:1] * empty) if empty > 0 else batch

    def _pass(self, work: IterationWork, at: float) -> float:
        """Send a batch through all stages; returns when it ends."""
        free = self._free
        times, jitter = self.cost.stages(work), self.jitter
        if jitter is not None:
            times = [seconds * jitter.factor(self._iterations, stage) for stage, seconds in enumerate(times)]
            self._iterations += 1
        for stage, seconds in enumerate(times):
            if at > free[stage]:
                self.bubbles[stage] += at - free[stage]
                self.newest_bubbles += at - free[stage]
            else:
                at = free[stage]
            self.busy[stage] += seconds
            at += seconds
            free[stage] = at
        return at

    def _repeat(self, work: IterationWork, at: float, times: int) -> list[float]:
        """Run a batch `times` times on the only stage; returns all ends.

        Prompts run in the first iteration, and are decodes in the others.
        """
        ends, begin, jitter = [], at, self.jitter
        decodes = work.decoding() if work.prompts else work
        for done in range(times):
            (seconds,) = self.cost.stages(decodes.repeated(done) if done else work)
            if jitter is not None:
                seconds *= jitter.factor(self._iterations + done)
            at += seconds
            ends.append(at)
        self._iterations += times
        self.busy[0] += at - begin
        self._free[0] = at
        return ends

    def _most(self, batch: RepeatedBatch) -> int:
        """Iterations until the first answer of a batch is complete."""
        if not self.answers:
            return batch.repeats
        left = [self.answers[c.request_id] - self._generated(c) for c in batch.chunks if c.request_id in self.answers]
        return min([batch.repeats, *left])

    def _generated(self, chunk: Chunk) -> int:
        """Output tokens up to the end of a chunk, without its drafts.

        A simulation rejects all drafts.
        """
        return chunk.end - (chunk.drafts or 0) - self._prompts[chunk.request_id]

    def interrupt(self, now: float) -> None:
        """End a repeated batch after the iteration that runs now."""
        if self._flights and len(self._flights[-1].ends) > 1:
            ends = self._flights[-1].ends
            last, planned = ends[-1], len(ends)
            del ends[bisect_left(ends, now) + 1 :]
            self._iterations -= planned - len(ends)
            self.busy[0] -= last - ends[-1]
            self._free[0] = ends[-1]

    def begun(self, now: float) -> tuple[Chunk, ...]:
        """The chunks of a repeated batch whose first iteration has ended; its result is not collected yet."""
        if self._flights and len(self._flights[-1].ends) > 1 and self._flights[-1].ends[0] < now:
            return self._flights[-1].batch.chunks
        return ()

    def collect(self) -> BatchResult:
        flight = self._flights.popleft()
        batch, ends = flight.batch, flight.ends
        self.clock.jump(ends[-1])
        earlier = tuple(ends[:-1])
        if self.answers:
            rows = tuple([self._row(chunk, len(earlier)) for chunk in batch.chunks])
        else:
            rows = tuple([() if chunk.drafts is None else MADE_UP_ROW for chunk in batch.chunks])
        return RepeatedResult(batch.id, rows, earlier=earlier) if earlier else BatchResult(batch.id, rows)

    def _row(self, chunk: Chunk, earlier: int) -> tuple[int, ...]:
        """The token of a batch's last iteration, if there is one.

        It is `END` if it completes the answer.
        """
        if chunk.drafts is None:
            return ()
        answer = self.answers.get(chunk.request_id)
        if answer is None or self._generated(chunk) + earlier + 1 < answer:
            return MADE_UP_ROW
        del self.answers[chunk.request_id]
        return (END,)

    def close(self) -> None:
        """Nothing to close."""


class BubbleObserver(Observer):
    """Seconds of bubbles per request, as a distribution."""

    def __init__(self, executor: SimulatedExecutor, per_request: Distribution) -> None:
        self._executor, self._per_request = executor, per_request
        self._live: defaultdict[str, float] = defaultdict(float)

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        seconds = self._executor.newest_bubbles
        for chunk in batch.chunks:
            self._live[chunk.request_id] += seconds

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self._per_request.add(self._live.pop(event.request_id, 0.0))
