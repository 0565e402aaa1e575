"""Timelines of requests: time by stage, and reasons for waits."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orcinus.core.batch import Batch, BatchResult, Chunk, Event, Finished, Submitted
from orcinus.core.ports import Observer
from orcinus.core.promises import PromiseOutcome
from orcinus.core.request import Finish
from orcinus.core.unserved import Reason, Unserved


class Stage(StrEnum):
    """A request's stage in the engine."""

    QUEUED = "queued"
    PREFILL = "prefill"
    DECODE = "decode"
    PREEMPTED = "preempted"


@dataclass(slots=True)
class Timeline:
    """One request's time by stage; the stages add up to its latency."""

    request_id: str
    arrival: float  # on the engine's clock
    prompt_tokens: int
    cached_tokens: int = 0  # prompt tokens found in the prefix cache
    output_tokens: int = 0
    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(Stage, 0.0))
    prefill_iterations: int = 0  # recomputations included
    decode_iterations: int = 0
    preemptions: int = 0
    draft_tokens: int = 0  # guesses that its iterations verified (speculative decoding)
    accepted_draft_tokens: int = 0
    waits: Counter[Reason] = field(default_factory=Counter)  # iterations that it waited for, by reason
    finished: float | None = None
    finish: Finish | None = None
    promise: PromiseOutcome | None = None  # of a request with an SLO; a server adds it

    @property
    def total_seconds(self) -> float:
        """Seconds from the request's arrival to its end, or until now."""
        return sum(self.seconds.values())


@dataclass(slots=True)
class _LiveTimeline:
    """The timeline of a live request, with the state to update it."""

    timeline: Timeline
    since: float  # when its stage began
    stage: Stage = Stage.QUEUED
    before: Counter[Reason] | None = None  # `_others` when it joined the queue; None = not in the queue


class TimelineObserver(Observer):
    """Timelines of all live requests and of the last `keep` ended ones."""

    def __init__(self, keep: int = 1000) -> None:
        self.keep = keep
        self._live: dict[str, _LiveTimeline] = {}
        self._ended: OrderedDict[str, Timeline] = OrderedDict()
        self._others: Counter[Reason] = Counter()  # iterations so far, by the reason of the whole queue

    def get(self, request_id: str, now: float | None = None) -> Timeline | None:
        """A request's timeline, until `now` if live; None if unknown or forgotten."""
        live = self._live.get(request_id)
        if live is None:
            return self._ended.get(request_id)
        if now is not None:
            self._enter(live, live.stage, now)
            if live.before is not None:
                self._leave_queue(live)
                live.before = self._others.copy()  # it still waits
        return live.timeline

    def on_submit(self, submitted: Submitted) -> None:
        timeline = Timeline(submitted.request_id, submitted.at, len(submitted.prompt))
        timeline.output_tokens = len(submitted.output)
        self._live[submitted.request_id] = _LiveTimeline(timeline, submitted.at, before=self._others.copy())

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        for chunk in batch.chunks:
            live = self._live.get(chunk.request_id)
            if live is None:
                continue
            timeline = live.timeline
            if live.before is not None:
                if not timeline.prefill_iterations:
                    timeline.cached_tokens = chunk.start
                self._leave_queue(live)
            self._enter(live, Stage.DECODE if _decodes(chunk) else Stage.PREFILL, now)
            if live.stage is Stage.PREFILL:
                timeline.prefill_iterations += 1
            else:
                timeline.decode_iterations += 1
        self._note_unserved(unserved, now)

    def _note_unserved(self, unserved: Unserved, now: float) -> None:
        for request_id, reason in unserved.reasons.items():
            live = self._live.get(request_id)
            if live is None:
                continue
            live.timeline.waits[reason] += 1
            if reason is Reason.PREEMPTED:
                live.timeline.preemptions += 1
                self._enter(live, Stage.PREEMPTED, now)
                live.before = self._others.copy()
            if live.before is not None:
                live.before[unserved.others] += 1  # its own reason replaces the queue's
        self._others[unserved.others] += 1

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        for chunk, tokens in zip(batch.chunks, result.tokens, strict=True):
            if chunk.drafts and (live := self._live.get(chunk.request_id)) is not None:
                live.timeline.draft_tokens += chunk.drafts
                live.timeline.accepted_draft_tokens += max(0, len(tokens) - 1)

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            live = self._live.get(event.request_id)
            if live is None:
                continue
            if isinstance(event, Finished):
                self._end(live, event)
            else:
                live.timeline.output_tokens += 1
                self._enter(live, Stage.DECODE, event.at)

    def _enter(self, live: _LiveTimeline, stage: Stage, now: float) -> None:
        """Close the request's stage and enter another.

        Events that are announced late do not turn the clock back.
        """
        now = max(now, live.since)
        live.timeline.seconds[live.stage] += now - live.since
        live.stage, live.since = stage, now

    def _leave_queue(self, live: _LiveTimeline) -> None:
        assert live.before is not None
        live.timeline.waits += self._others - live.before
        live.before = None

    def _end(self, live: _LiveTimeline, event: Finished) -> None:
        if live.before is not None:
            self._leave_queue(live)
        self._enter(live, live.stage, event.at)
        timeline = live.timeline
        timeline.finished, timeline.finish = event.at, event.reason
        del self._live[timeline.request_id]
        self._ended[timeline.request_id] = timeline
        while len(self._ended) > self.keep:
            self._ended.popitem(last=False)


def _decodes(chunk: Chunk) -> bool:
    """Whether a chunk runs one generated token, and possibly drafts after it."""
    return not chunk.prefill and len(chunk.tokens) - (chunk.drafts or 0) == 1
