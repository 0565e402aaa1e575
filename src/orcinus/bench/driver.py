"""Serves a workload in this process, in real time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from orcinus.bench.record import Iteration, RequestOutcome, RequestRecord
from orcinus.bench.requests import BenchRequest, hash_tokens
from orcinus.core.batch import Batch, BatchResult, Event, Finished, Token, count_drafts
from orcinus.core.engine import Engine
from orcinus.core.ports import Observer
from orcinus.core.request import Finish, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Unserved
from orcinus.interrupt import uninterrupted
from orcinus.workload.arrival import Arrival
from orcinus.workload.source import Source

LONGEST_PAUSE_S = 0.0005  # sleep while idle: a longer one may wake up late
GREEDY = SamplingParams(temperature=0)  # nothing else ends a text: lengths are exact
OUTCOMES = {Finish.LENGTH: RequestOutcome.OK, Finish.REJECTED: RequestOutcome.REJECTED}


def request_name(number: int) -> str:
    """The engine's id for the workload's n-th request."""
    return f"r{number}"


@dataclass(slots=True)
class _InFlight:
    number: int
    asked: BenchRequest
    due: float
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class EngineDriver:
    """One run; requests arrive when due, also during an iteration.

    `pause` lets seconds pass on the engine's clock; `watch` hears how many requests have ended.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        requests: Sequence[BenchRequest],
        params: SamplingParams = GREEDY,
        pause: Callable[[float], None] = time.sleep,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        self._engine, self._source, self._requests = engine, source, requests
        self._pause, self._watch = pause, watch
        lengths = {each.output_tokens for each in requests}
        self._params = {length: replace(params, max_tokens=length) for length in lengths}
        self._live: dict[str, _InFlight] = {}
        self._sent = 0
        self.ended: list[RequestRecord] = []
        self.start = engine.clock.now()  # start of the run, on the engine's clock

    def run(self) -> None:
        """Serve all requests to their end."""
        self.start = self._engine.clock.now()
        while self._source.next is not None or not self._engine.idle:
            while (arrival := self._source.next) is not None and arrival.at <= self._now():
                self._submit(arrival)
            if not self._engine.idle:
                with uninterrupted():
                    self._hear(self._engine.step())
            elif self._source.next is not None:
                self._pause(LONGEST_PAUSE_S)

    def _now(self) -> float:
        return self._engine.clock.now() - self.start

    def _submit(self, arrival: Arrival) -> None:
        name, asked = request_name(self._sent), self._requests[self._sent]
        self._source.take(name)
        self._live[name] = _InFlight(self._sent, asked, arrival.at)
        self._sent += 1
        params, at = self._params[asked.output_tokens], self.start + arrival.at
        request = Request(name, asked.prompt, params, at, arrival.context)
        self._hear(self._engine.submit(request))

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self._end(event)
            elif isinstance(event, Token):
                live = self._live[event.request_id]
                live.tokens.append(event.token)
                live.times.append(event.at - self.start)

    def _end(self, event: Finished) -> None:
        live, at = self._live.pop(event.request_id), event.at - self.start
        self._source.ended(event.request_id, at)
        outcome = OUTCOMES.get(event.reason, RequestOutcome.FAILED)
        if outcome is RequestOutcome.OK and len(live.tokens) != live.asked.output_tokens:
            outcome = RequestOutcome.WRONG_LENGTH
        ended = RequestRecord(
            number=live.number,
            prompt_tokens=len(live.asked.prompt),
            output_tokens=len(live.tokens),
            due=live.due,
            sent=live.due,
            ended=at,
            times=tuple(live.times),
            outcome=outcome,
            error=event.error or "",
            output=hash_tokens(live.tokens),
        )
        self.ended.append(ended)
        if self._watch is not None:
            self._watch(len(self.ended))


class IterationObserver(Observer):
    """Collects the iterations of a run."""

    def __init__(self) -> None:
        self._launched: dict[int, tuple[float, Unserved]] = {}
        self._seen: list[tuple[float, float, Batch, Unserved]] = []
        self.draft_tokens = self.accepted_draft_tokens = 0

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self._launched[batch.id] = now, unserved

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        launched, unserved = self._launched.pop(batch.id)
        self._seen.append((launched, now, batch, unserved))
        drafted, accepted = count_drafts(batch, result)
        self.draft_tokens += drafted
        self.accepted_draft_tokens += accepted

    def since(self, start: float) -> tuple[Iteration, ...]:
        """Iterations in order of return; times count from `start`."""
        return tuple(_iteration(begun - start, ended - start, batch, unserved) for begun, ended, batch, unserved in self._seen)

    def cached_tokens(self) -> dict[str, int]:
        """Prompt tokens that each request's first iteration found in the cache."""
        found: dict[str, int] = {}
        for _, _, batch, _ in self._seen:
            for chunk in batch.chunks:
                found.setdefault(chunk.request_id, chunk.start)
        return found


def _iteration(launched: float, returned: float, batch: Batch, seen: Unserved) -> Iteration:
    prefill = sum(len(chunk.tokens) for chunk in batch.chunks if chunk.prefill)
    counts = (len(batch.chunks), prefill, batch.num_tokens - prefill, seen.num_waiting, seen.num_running, seen.free_blocks)
    return Iteration(launched, returned, *counts)
