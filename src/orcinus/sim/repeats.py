"""Repeated batches: equal iterations, decided once to make simulations fast."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from orcinus.core.batch import Batch, BatchResult, Event
from orcinus.core.request import Overlap
from orcinus.core.scheduler import NO_OVERLAP, Scheduler
from orcinus.core.step_time import StepTime
from orcinus.core.unserved import Unserved
from orcinus.observe.metrics import MetricsObserver

MADE_UP = 0  # the token of every iteration that does not end an answer
MOST_REPEATS = 64  # iterations decided at once: more gains nothing, and an arrival wastes the rest


@dataclass(frozen=True, slots=True)
class RepeatedBatch(Batch):
    """A batch that stands for up to `repeats` iterations.

    Every chunk is sampled in the first one, and runs that token in the next: all later iterations are decodes.
    """

    repeats: int = 2
    held: bool = False  # whether its tokens are announced only when nothing runs


@dataclass(frozen=True, slots=True)
class RepeatedResult(BatchResult):
    """The last iteration's result, and the times of the earlier ends.

    In each earlier iteration every request was given the token `MADE_UP`. Observers see these tokens in `on_step` only.
    """

    earlier: tuple[float, ...] = ()  # seconds


class RepeatingScheduler(Scheduler):
    """A scheduler that decides once for all iterations sure to be equal.

    It is for executors that run one batch at a time and only compute its time.
    """

    def plan(self, now: float, overlap: Overlap = NO_OVERLAP) -> tuple[Batch, Unserved] | None:
        before = self.num_running
        planned = super().plan(now, overlap)
        if planned is None:
            return None
        batch, unserved = planned
        repeats = self._repeats(batch, before)
        if repeats > 1:
            batch = RepeatedBatch(batch.id, batch.chunks, batch.new, batch.removed, repeats, self.policy.holds_answers)
        return batch, unserved

    def _repeats(self, batch: Batch, before: int) -> int:
        """The number of equal iterations that start with this batch.

        Only an arrival or a cancellation can interrupt them. All requests that hold K/V memory are sampled in the batch, and
        decode from then on, so snapshots differ only in lengths until one of them ends or memory runs out. A steady policy
        then selects the same requests. It admits no others if this batch, decodes alone, admitted none (K/V memory was held
        `before`), or if there are none to admit.
        """
        requests, chunks = len(batch.chunks), batch.chunks
        steady = self.drafter is None and requests == self.num_running and getattr(self.policy, "steady", False)
        if not (steady and all(chunk.drafts is not None for chunk in chunks)):
            return 1
        decodes = requests == before and all(len(chunk.tokens) == 1 and not chunk.prefill for chunk in chunks)
        if not (decodes or self._closed(batch)):
            return 1
        most = min(request.max_known - request.known for request in self.admission.running)
        if not self.kv.preallocates:
            most = min(most, self.kv.num_free // requests * self.kv.block_size)
        return max(1, min(most, MOST_REPEATS))

    def _closed(self, batch: Batch) -> bool:
        """Whether no request can be admitted after this batch, which has the order of the queue, as the next one will.

        Answers that are held back are announced only after their last token, so their first one must not be decided early.
        """
        if self.policy.holds_answers or (self.num_waiting and self.num_running < self.limits.max_batch_size):
            return False
        return all(one.id == chunk.request_id for one, chunk in zip(self.admission.running, batch.chunks, strict=True))

    def apply(self, batch: Batch, result: BatchResult, now: float) -> list[Event]:
        if isinstance(result, RepeatedResult):
            self._write_earlier(batch, len(result.earlier))
        return super().apply(batch, result, now)

    def _write_earlier(self, batch: Batch, iterations: int) -> None:
        """Write the earlier iterations into the requests; none of them ends one."""
        for chunk in batch.chunks:
            request = self._requests[chunk.request_id]
            if request.finish:  # cancelled while the batch ran
                continue
            grown = self.kv.grow(request, iterations)
            assert grown, "a batch was repeated beyond what memory was sure to hold"
            request.output += (MADE_UP,) * iterations
            request.computed += iterations
            self.order.generated(request, iterations)


class NothingLearnt(StepTime):
    """Keeps no iterations: for steady policies, which select the same again however long iterations are."""

    def learn(self, batch: Batch, seconds: float) -> None:
        return


class RepeatMetrics(MetricsObserver):
    """Metrics of an engine whose batches may be repeated."""

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        if not isinstance(result, RepeatedResult):
            return
        earlier, gaps, decoding = result.earlier, dict[float, int](), 0
        held = isinstance(batch, RepeatedBatch) and batch.held
        self.batch_size.add(len(batch.chunks), len(earlier))
        self.batch_tokens.add(len(batch.chunks), len(earlier))
        for chunk in batch.chunks:
            live = self._live.get(chunk.request_id)
            if live is None:
                continue
            live.tokens += len(earlier)
            if held:  # all tokens come together, with the last one
                self.tbt.add(0.0, len(earlier))
                continue
            if live.first is None:
                self.first_token(live, earlier[0])
            else:
                gap = earlier[0] - live.newest
                gaps[gap] = gaps.get(gap, 0) + 1
            live.newest, decoding = earlier[-1], decoding + 1
        for gap, requests in gaps.items():
            self.tbt.add(gap, requests)
        if decoding:
            for began, ended in pairwise(earlier):
                self.tbt.add(ended - began, decoding)
