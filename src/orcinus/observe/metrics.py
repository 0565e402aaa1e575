"""Metrics of an engine, real or simulated, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orcinus.core.batch import Batch, Event, Finished, Submitted
from orcinus.core.ports import Observer
from orcinus.core.request import Finish
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.observe.distribution import Distribution

SERVED = (Finish.STOP, Finish.LENGTH)


@dataclass(frozen=True, slots=True)
class Served:
    """A served request, with its moments in seconds on the engine's clock."""

    request_id: str
    client: str
    arrival: float
    prompt_tokens: int
    output_tokens: int
    launched: float  # when its first iteration was launched
    first_token: float
    finished: float


@dataclass(slots=True)
class _LiveRequest:
    """A request that has not ended, with its moments in seconds."""

    arrival: float
    prompt_tokens: int
    client: str
    earlier: int = 0  # tokens that an earlier engine generated
    launched: float | None = None
    first: float | None = None
    newest: float = 0.0
    tokens: int = 0


class MetricsObserver(Observer):
    """Distributions of latencies over requests, and counts of requests and tokens.

    ttft: arrival to first token. tbt: between consecutive tokens of a request (inter-token latency), pooled over tokens; of
    tokens that arrive together, such as accepted drafts, all but the first have 0. tpot: mean tbt of a request. e2e: arrival
    to end. normalized_latency: e2e / generated tokens (Orca, section 6; vLLM, section 6.1). scheduling_delay: arrival to
    first iteration (Sarathi-Serve, section 5). All in seconds. Rejected, cancelled and failed requests count only in
    `endings`. `on_served` is called with every request that was served to its end.
    """

    def __init__(self, limits: Limits, on_served: Callable[[Served], None] | None = None) -> None:
        self.limits, self.on_served = limits, on_served
        self.ttft, self.tbt, self.tpot = Distribution(), Distribution(), Distribution()
        self.e2e, self.normalized_latency, self.scheduling_delay = Distribution(), Distribution(), Distribution()
        self.batch_size, self.batch_tokens = Distribution(), Distribution()
        self.submitted = 0
        self.endings: Counter[Finish] = Counter()
        self.prompt_tokens = self.output_tokens = 0  # of requests served to their end
        self.client_tokens: Counter[str] = Counter()  # prompt and output, of each client
        self.first_arrival: float | None = None
        self.last_arrival: float | None = None
        self.last_ending: float | None = None
        self._live: dict[str, _LiveRequest] = {}

    def on_submit(self, submitted: Submitted) -> None:
        self.submitted += 1
        self._live[submitted.request_id] = _LiveRequest(
            submitted.at, len(submitted.prompt), submitted.context.client, len(submitted.output)
        )
        self.first_arrival = submitted.at if self.first_arrival is None else min(self.first_arrival, submitted.at)
        self.last_arrival = submitted.at if self.last_arrival is None else max(self.last_arrival, submitted.at)

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        tokens = 0
        for chunk in batch.chunks:
            tokens += len(chunk.tokens)
            if chunk.prefill:
                live = self._live.get(chunk.request_id)
                if live is not None and live.launched is None:
                    live.launched = now
                    self.scheduling_delay.add(now - live.arrival)
        self.batch_size.add(len(batch.chunks))
        self.batch_tokens.add(tokens)

    def on_events(self, events: Sequence[Event]) -> None:
        gaps: dict[float, int] = {}
        for event in events:
            live = self._live.get(event.request_id)
            if live is None:
                continue
            if isinstance(event, Finished):
                self._end(live, event)
                continue
            if live.first is None:
                self.first_token(live, event.at)
            else:
                gap = event.at - live.newest
                gaps[gap] = gaps.get(gap, 0) + 1
            live.newest, live.tokens = event.at, live.tokens + 1
        for gap, times in gaps.items():
            self.tbt.add(gap, times)

    def first_token(self, live: _LiveRequest, at: float) -> None:
        live.first = at
        if not live.earlier:
            self.ttft.add(at - live.arrival)

    def _end(self, live: _LiveRequest, event: Finished) -> None:
        del self._live[event.request_id]
        self.endings[event.reason] += 1
        self.last_ending = event.at
        if event.reason not in SERVED or live.first is None or live.launched is None:
            return
        e2e = event.at - live.arrival
        self.e2e.add(e2e)
        output = live.earlier + live.tokens
        self.normalized_latency.add(e2e / output)
        if live.tokens > 1:
            self.tpot.add((live.newest - live.first) / (live.tokens - 1))
        self.prompt_tokens += live.prompt_tokens
        self.output_tokens += output
        self.client_tokens[live.client] += live.prompt_tokens + output
        if self.on_served is not None:
            who = (event.request_id, live.client, live.arrival, live.prompt_tokens, output)
            self.on_served(Served(*who, live.launched, live.first, event.at))

    @property
    def served(self) -> int:
        """Requests that were served to their end."""
        return sum(self.endings[reason] for reason in SERVED)

    @property
    def iterations(self) -> int:
        return self.batch_size.count

    @property
    def window(self) -> float:
        """Seconds from the first arrival to the last."""
        if self.first_arrival is None or self.last_arrival is None:
            return 0.0
        return self.last_arrival - self.first_arrival

    @property
    def span(self) -> float:
        """Seconds from the first arrival to the last ending."""
        if self.first_arrival is None or self.last_ending is None:
            return 0.0
        return self.last_ending - self.first_arrival

    @property
    def fairness(self) -> float:
        """Jain's fairness index over clients' tokens.

        1 means equal shares; 1 / clients means that one client got all.
        """
        shares = self.client_tokens.values()
        squares = sum(share * share for share in shares)
        return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
