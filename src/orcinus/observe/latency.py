"""Latencies of every request as exact lists, and throughput."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from orcinus.core.batch import Event, Finished, Submitted
from orcinus.core.ports import Observer
from orcinus.core.request import Finish


def percentile(values: Sequence[float], p: float) -> float:
    """The p-th percentile (0-100), interpolated as numpy does; NaN of no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = (len(ordered) - 1) * p / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; NaN of no values."""
    return math.fsum(values) / len(values) if values else math.nan


@dataclass(slots=True)
class RequestTimes:
    """Moments of one request, in seconds on the engine's clock."""

    arrival: float
    prompt_tokens: int
    tokens: list[float] = field(default_factory=list)
    finished: float | None = None
    reason: Finish | None = None


class LatencyObserver(Observer):
    """Collects the moments of every request, in order of submission."""

    def __init__(self) -> None:
        self.requests: dict[str, RequestTimes] = {}

    def on_submit(self, submitted: Submitted) -> None:
        self.requests[submitted.request_id] = RequestTimes(submitted.at, len(submitted.prompt))

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            times = self.requests[event.request_id]
            if isinstance(event, Finished):
                times.finished, times.reason = event.at, event.reason
            else:
                times.tokens.append(event.at)

    def ttft(self) -> list[float]:
        """Time to first token in seconds, of every request that got one."""
        return [times.tokens[0] - times.arrival for times in self.requests.values() if times.tokens]

    def tbt(self) -> list[float]:
        """Time between tokens (inter-token latency) in seconds, pooled over requests.

        Tokens of one iteration, such as accepted drafts, arrive together: only the first of them has a gap above 0.
        """
        return [b - a for times in self.requests.values() for a, b in zip(times.tokens, times.tokens[1:], strict=False)]

    def e2e(self) -> list[float]:
        """End-to-end latency of every served request, in seconds."""
        served = (Finish.STOP, Finish.LENGTH)
        return [t.finished - t.arrival for t in self.requests.values() if t.finished is not None and t.reason in served]

    def span(self) -> float:
        """Seconds from first arrival to last ending; NaN before any ending."""
        ends = [times.finished for times in self.requests.values() if times.finished is not None]
        return max(ends) - min(times.arrival for times in self.requests.values()) if ends else math.nan

    def output_throughput(self) -> float:
        """Generated tokens per second of `span`."""
        return sum(len(times.tokens) for times in self.requests.values()) / (self.span() or math.nan)

    def request_throughput(self) -> float:
        """Requests served to their end per second of `span`."""
        return len(self.e2e()) / (self.span() or math.nan)
