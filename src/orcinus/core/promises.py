"""Promises: requests are accepted only if their SLO is predicted to be kept.

The forecast is corrected by its own recorded errors. A refused request is told a time at which there is room for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

from orcinus.core.answer_lengths import AnswerLengths
from orcinus.core.batch import Batch, BatchResult, Event, Finished, Submitted
from orcinus.core.forecast import Forecast, Forecaster
from orcinus.core.forecast_errors import ForecastErrors
from orcinus.core.iteration_gaps import IterationGaps
from orcinus.core.ports import Observer
from orcinus.core.request import Finish, Request
from orcinus.core.return_times import ReturnTimes
from orcinus.core.scheduler import Scheduler
from orcinus.core.slo import SLO
from orcinus.core.unserved import Unserved

FIRST_S = 0.02  # seconds of an iteration, before any
AIM = 0.5  # of its bound: the wait that is left to a refused request when it comes again
UNSURE = {"ttft": 1.0, "tpot": 0.25, "e2e": 1.0}  # relative errors of forecasts, assumed at first
COMPLETE = (Finish.STOP, Finish.LENGTH)


@dataclass(frozen=True, slots=True)
class PromiseVerdict:
    """The answer to a request with an SLO."""

    accepted: bool
    predicted: Mapping[str, float] = field(default_factory=dict)  # seconds by metric, margins included; empty: not known yet
    retry_after: int = 0  # seconds, if refused
    never: bool = False  # its SLO could not be kept even if it were alone


@dataclass(slots=True)
class MeasuredPromise:
    """The latencies of a request with a promise, token by token. Times are seconds."""

    slo: SLO
    arrival: float
    first: float | None = None
    newest: float = 0.0
    tokens: int = 0
    gaps: list[float] = field(default_factory=list)

    def add(self, at: float) -> None:
        """A token came."""
        if self.first is None:
            self.first = at
        else:
            self.gaps.append(at - self.newest)
        self.newest, self.tokens = at, self.tokens + 1

    def latencies(self, end: float) -> dict[str, float]:
        """By metric; `tbt` is the 99th percentile of the request's own gaps. Without a token there is no `ttft`."""
        found = {"tbt": nlargest(1 + len(self.gaps) // 100, self.gaps)[-1] if self.gaps else 0.0, "e2e": end - self.arrival}
        found["tpot"] = sum(self.gaps) / len(self.gaps) if self.gaps else 0.0
        return found if self.first is None else found | {"ttft": self.first - self.arrival}

    def kept(self, end: float) -> bool:
        """Whether the promise was kept."""
        return not self.slo.missed(self.latencies(end))


@dataclass(frozen=True, slots=True)
class PromiseOutcome:
    """A promise, and what became of it; seconds by metric."""

    slo: SLO
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    kept: bool | None = None  # None: the request runs, or was cancelled


class Promises(Observer):
    """Accepts and refuses requests with an SLO, and learns from those that it accepted.

    It watches the engine of a scheduler. A request without an SLO is never asked about; it counts like all others that wait
    or run.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._sizes: dict[str, int] = {}  # live request -> tokens so far
        self.scheduler, self.lengths, self.returns = scheduler, AnswerLengths(self._sizes), ReturnTimes()
        self._gaps = IterationGaps()
        self._forecaster = Forecaster(scheduler, self.lengths, self._gaps)
        self._errors = {metric: ForecastErrors(unsure) for metric, unsure in UNSURE.items()}
        self._live: dict[str, tuple[MeasuredPromise, Forecast | None]] = {}
        self._forecasts: dict[str, Forecast | None] = {}  # of accepted requests that are not submitted yet

    def ask(self, request: Request, now: float, *, book: bool = True, full: bool = False) -> PromiseVerdict:
        """Whether the engine accepts a request with an SLO, before it is submitted.

        A refused one is told when to come again; with `book`, room is held for it then. With `full`, the queue has no place
        for others than those who come as they were told.
        """
        slo = request.context.slo
        assert slo is not None, "only requests with an SLO are asked about"
        key = hash((request.context.client, request.prompt, request.params.max_tokens))
        told = self.returns.take(key, now)
        if not self.returns.seen:
            self.returns.guess = self._between_endings(request)
        seen = self._forecaster.forecast(request, now, self._breaks)
        if seen is None:
            return self._while_cold(request, slo, key, now, told, book=book, full=full)
        found, breaking = seen
        predicted = self._with_margins(found, slo)
        if breaking or (full and told is None) or not self._fits(slo, found, predicted):
            self.returns.full(now)
        elif told is not None or self._fits(slo, found, predicted, self._held(request, slo, now)):
            self.returns.accepted(told)
            self._forecasts[request.id] = found
            return PromiseVerdict(True, predicted)
        self.scheduler.kv.release(request)  # what a prefix cache noted about it
        alone = self._forecaster.alone(request)._asdict()
        if slo.missed(alone):
            return PromiseVerdict(False, alone, never=True)
        return PromiseVerdict(False, predicted, self._book(key, slo, now, predicted["ttft"], told, hold=book))

    def _book(self, key: int, slo: SLO, now: float, wait: float, told: float | None, *, hold: bool) -> int:
        """Seconds after which a request should come again that would wait too long now."""
        bound = min(slo.bounds.get("ttft", math.inf), slo.bounds.get("e2e", math.inf))
        late = wait - (AIM * bound if bound < math.inf else 0.0)
        return self.returns.book(key, now, late, told, hold=hold, patience=AIM * bound)

    def _while_cold(
        self, request: Request, slo: SLO, key: int, now: float, told: float | None, *, book: bool, full: bool
    ) -> PromiseVerdict:
        """Before anything is known, as many are accepted as can run at once; the others come one after the other."""
        scheduler = self.scheduler
        room = not full or told is not None
        if room and scheduler.num_running + scheduler.num_waiting < scheduler.limits.max_batch_size:
            self._forecasts[request.id] = None
            return PromiseVerdict(True)
        return PromiseVerdict(False, retry_after=self._book(key, slo, now, self.returns.guess, told, hold=book))

    def _between_endings(self, request: Request) -> float:
        """A guess at the seconds from one ending to the next while all places are taken, by requests like those that run."""
        scheduler = self.scheduler
        lengths = [self.lengths.left(0, one.params.max_tokens or 1) for one in (request, *scheduler.running)]
        iteration = scheduler.step_time.measured or FIRST_S
        return iteration * sum(lengths) / len(lengths) / scheduler.limits.max_batch_size

    def _held(self, request: Request, slo: SLO, now: float) -> float:
        """Seconds of waiting that are left to those who were told to come."""
        return self.returns.held(now, now + slo.bounds.get("ttft", slo.bounds.get("e2e", 0.0)), self._free_beside(request))

    def _free_beside(self, request: Request) -> int:
        """How many requests like this one find a place and memory at once, beside it and those that wait."""
        scheduler, known = self.scheduler, len(request.prompt) + len(request.output)
        size = known + self.lengths.left(len(request.output), request.params.max_tokens or 1)
        places = scheduler.limits.max_batch_size - scheduler.num_running
        fitting = int(scheduler.kv.num_free * scheduler.kv.block_size / size)
        return max(0, min(places, fitting) - scheduler.num_waiting - 1)

    def _fits(self, slo: SLO, found: Forecast, predicted: Mapping[str, float], held: float = 0.0) -> bool:
        """Whether its own promise and those of the others would be kept."""
        idle = not (self.scheduler.num_running or self.scheduler.num_waiting)
        latencies = found._asdict() if idle else dict(predicted)  # an idle engine has to run to correct its errors
        latencies["ttft"] += held
        latencies["e2e"] += held
        tightest = min((live.slo.bounds.get("tbt", math.inf) for live, _ in self._live.values()), default=math.inf)
        return not slo.missed(latencies) and latencies["tbt"] <= tightest

    def _with_margins(self, found: Forecast, slo: SLO) -> dict[str, float]:
        """The latencies that 99 of 100 such requests keep.

        Requests that come later cannot lengthen iterations beyond a promised `tbt`, because they are asked about it, too.
        What remains are iterations that were as long lately, and those that take longer than predicted.
        """
        step_time, latencies = self.scheduler.step_time, found._asdict()
        latencies["tbt"] = max(found.tbt + step_time.margin, step_time.measured)
        for name, errors in self._errors.items():
            latencies[name] += errors.margin(latencies[name], slo.bounds.get(name, latencies[name]))
        return latencies

    def _breaks(self, request: Request, first_token: float) -> bool:
        """Whether a first token at this time breaks the promise of a waiting request."""
        if request.id not in self._live:
            return False
        bound = self._live[request.id][0].slo.bounds.get("ttft", math.inf)
        return first_token - request.arrival > bound

    # As an observer

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self._gaps.launched(now)

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        self._gaps.ended(now)

    def on_submit(self, submitted: Submitted) -> None:
        if not self.scheduler.num_running:
            self._gaps.idle()
        self._sizes[submitted.request_id] = len(submitted.output)
        if submitted.context.slo is not None:
            forecast = self._forecasts.pop(submitted.request_id, None)
            self._live[submitted.request_id] = MeasuredPromise(submitted.context.slo, submitted.at), forecast

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            live = self._live.get(event.request_id)
            if isinstance(event, Finished):
                self._end(event)
            else:
                self._sizes[event.request_id] = self._sizes.get(event.request_id, 0) + 1
                if live is not None:
                    self._token(*live, event.at)

    def _token(self, measured: MeasuredPromise, forecast: Forecast | None, at: float) -> None:
        measured.add(at)
        if measured.tokens == 1 and forecast is not None:
            bound = measured.slo.bounds.get("ttft", forecast.ttft)
            self._errors["ttft"].add(at, at - measured.arrival, forecast.ttft, bound)

    def _end(self, event: Finished) -> None:
        size, live = self._sizes.pop(event.request_id, 0), self._live.pop(event.request_id, None)
        self._forecasts.pop(event.request_id, None)
        if event.reason not in COMPLETE:
            return
        self.lengths.learn(size, cut=event.reason is Finish.LENGTH)
        self.returns.ended(event.at)
        if live is not None and (forecast := live[1]) is not None:
            found: dict[str, Any] = live[0].latencies(event.at)
            for metric in ("tpot", "e2e"):
                predicted = getattr(forecast, metric)
                self._errors[metric].add(event.at, found[metric], predicted, live[0].slo.bounds.get(metric, predicted))
