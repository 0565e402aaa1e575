"""Forecasts of a request's latencies: the next iterations in numbers.

The forward run follows the scheduler's rules over predicted iteration times. Iterations of decodes alone are taken together.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from orcinus.core.answer_lengths import AnswerLengths
from orcinus.core.batch import pairs
from orcinus.core.iteration_gaps import IterationGaps
from orcinus.core.request import Request
from orcinus.core.scheduler import Scheduler

MOST_EVENTS = 512  # stretches of one forward run: about a millisecond
MOST_WAITING = 256  # waiting requests that it follows
GOLDEN = 0.6180339887498949  # its multiples, modulo 1, are spread evenly
LAST = 2**62  # a submission behind all that arrived at the same time
COLD = 16  # iterations before the step-time model says anything
DEVIATIONS = 1.64  # standard deviations that a normal variable exceeds in one of 20 cases


class Forecast(NamedTuple):
    """Predicted latencies in seconds, all but `tbt` and `tpot` counted from the request's arrival."""

    ttft: float
    tbt: float  # the longest time between two tokens
    tpot: float  # time per output token, on average
    e2e: float


@dataclass(slots=True)
class _Prompt:
    """A request without its next token: pending tokens of a prompt."""

    pending: int
    start: int  # position of the first of them
    left: float  # expected tokens of the answer
    holds: int  # tokens of K/V memory that it takes at admission
    request: Request


@dataclass(slots=True)
class _ForwardRun:
    """The state of a forward run."""

    coefficients: tuple[float, float, float, float]
    budget: int  # tokens of one iteration
    places: int
    free: float  # tokens of K/V memory
    pauses: bool  # whether decodes wait while prompts run
    grows: bool  # whether decodes take more memory
    now: float
    prompts: deque[_Prompt] = field(default_factory=deque)
    waiting: deque[_Prompt] = field(default_factory=deque)
    steps: float = 0.0  # iterations of decodes so far
    ends: list[tuple[float, float]] = field(default_factory=list)  # heap: step of a decode's end, memory it holds then
    known: float = 0.0  # tokens of all decodes
    longest: float = 0.0  # seconds of the longest iteration

    def seconds(self, tokens: float, query_key_pairs: float, requests: int) -> float:
        a, b, c, d = self.coefficients
        return a + b * tokens + c * query_key_pairs + d * requests

    def decode_seconds(self, more: int = 0, known: float = 0.0) -> float:
        """Seconds of an iteration of decodes, with some more of them."""
        count = len(self.ends) + more
        return self.seconds(count, self.known + known, count)

    def admit(self) -> None:
        """Admit waiting requests, in order, while there are places and memory."""
        while self.waiting and self.places > 0:
            first = self.waiting[0]
            if first.holds > self.free and (self.ends or self.prompts):
                return
            self.waiting.popleft()
            self.places -= 1
            self.free -= first.holds
            self.prompts.append(first)

    def prompt_iteration(self) -> list[_Prompt]:
        """One iteration with prompts; returns those that got their next token."""
        decodes = 0 if self.pauses else len(self.ends)
        room, tokens, attended, requests = max(1, self.budget - decodes), 0, 0, 0
        done = list[_Prompt]()
        for prompt in self.prompts:
            share = min(prompt.pending, room - tokens)
            if share <= 0:
                break
            attended += pairs(prompt.start, share)
            tokens, requests = tokens + share, requests + 1
            prompt.pending, prompt.start = prompt.pending - share, prompt.start + share
            if not prompt.pending:
                done.append(prompt)
        spent = self.seconds(decodes + tokens, attended + (0 if self.pauses else self.known), decodes + requests)
        self.now, self.longest = self.now + spent, max(self.longest, spent)
        if decodes:
            self._step(1)
        for prompt in done:
            self.prompts.remove(prompt)
            self.begin(prompt.start, prompt.left - 1, prompt.holds)
        return done

    def begin(self, known: int, left: float, holds: float) -> None:
        """A request decodes from now on."""
        self.known += known
        heapq.heappush(self.ends, (self.steps + max(0.0, left), holds + (left if self.grows else 0.0)))

    def decode(self) -> None:
        """Iterations of decodes alone, up to the next end."""
        stretch = max(1.0, self.ends[0][0] - self.steps)
        spent = self.decode_seconds(known=len(self.ends) * stretch / 2)
        self.now, self.longest = self.now + stretch * spent, max(self.longest, spent)
        self._step(stretch)

    def _step(self, count: float) -> None:
        self.steps += count
        self.known += count * len(self.ends)
        if self.grows:
            self.free -= count * len(self.ends)
        while self.ends and self.ends[0][0] <= self.steps:
            self.known *= 1 - 1 / len(self.ends)
            self.free += heapq.heappop(self.ends)[1]
            self.places += 1


class Forecaster:
    """Predicts the latencies of a request that would be queued now.

    It takes the learnt step-time model, the gaps between iterations, the queue in its order, the running requests with the
    expected rest of their answers, and the budget that the policy chooses now. It does not know later arrivals, drafts or
    preemptions: `margin` of a promise covers them.
    """

    def __init__(self, scheduler: Scheduler, lengths: AnswerLengths, gaps: IterationGaps) -> None:
        self.scheduler, self.lengths, self.gaps = scheduler, lengths, gaps

    def forecast(self, request: Request, now: float, breaks: Callable[[Request, float], bool]) -> tuple[Forecast, bool] | None:
        """The request's latencies, and whether it would break another promise; None while the engine is cold.

        `breaks` says whether a first token at this time breaks the promise of a request behind it in the queue.
        """
        if self.scheduler.step_time.num_steps < COLD:
            return None
        own = self._own(request)
        before, behind = self._queue(request)
        run = self._start(now, [*before, own])
        at = self._first_token(run, own)
        found = self._forecast(run, own, at, request.arrival)
        breaking = False
        if behind and at < math.inf:
            run.waiting.extend(behind)
            breaking = any(breaks(one.request, self._first_token(run, one)) for one in behind)
        return found, breaking

    def alone(self, request: Request) -> Forecast:
        """The request's latencies if it came to an idle engine."""
        own, run = self._own(request), self._empty(0.0)
        run.prompts.append(own)
        return self._forecast(run, own, self._first_token(run, own), 0.0)

    def _empty(self, now: float) -> _ForwardRun:
        scheduler, policy = self.scheduler, self.scheduler.policy
        kv, limits = scheduler.kv, scheduler.limits
        budget = policy.select(scheduler.view(now)).token_budget
        a, b, c, d = (self.gaps.factor * each for each in scheduler.step_time.coefficients)
        return _ForwardRun(
            (a, b, c, d),
            min(budget or limits.max_batch_tokens, limits.max_batch_tokens),
            limits.max_batch_size - scheduler.num_running,
            kv.num_free * kv.block_size,
            getattr(policy, "pauses_decodes", False),
            not kv.preallocates,
            now,
        )

    def _start(self, now: float, waiting: Sequence[_Prompt]) -> _ForwardRun:
        """The engine as it is, with these requests waiting."""
        run = self._empty(now)
        for request in self.scheduler.running:
            if request.finish:
                continue
            left = self._left(request)
            if request.pending <= 1 and request.output:
                run.begin(request.known, left, self._held(request))
            else:
                run.prompts.append(_Prompt(max(1, request.pending), request.launched, left, self._held(request), request))
        run.waiting.extend(waiting)
        return run

    def _queue(self, request: Request) -> tuple[list[_Prompt], list[_Prompt]]:
        """The waiting requests before and behind a request, as its order says."""
        order = self.scheduler.order
        if not len(order):
            return [], []
        last = replace(request, number=LAST)
        order.add(last)
        queue = order.first(MOST_WAITING)
        order.remove(last)
        place = next((index for index, one in enumerate(queue) if one is last), len(queue))
        prompts = [self._prompt(one) for one in queue if one is not last]
        return prompts[:place], prompts[place:]

    def _own(self, request: Request) -> _Prompt:
        """The request that is asked about, of an expected length."""
        own = self._prompt(request, self.scheduler.kv.cached(request))
        own.left = self.lengths.left(len(request.output), request.params.max_tokens or 1)
        return own

    def _prompt(self, request: Request, cached: int = 0) -> _Prompt:
        left = self._left(request)
        held = request.max_known if self.scheduler.kv.preallocates else request.known
        return _Prompt(max(1, request.known - cached), cached, left, held - cached, request)

    def _left(self, request: Request) -> float:
        """A guess at the rest of its answer; guesses of consecutive requests are spread like lengths of answers.

        Of few answers several may be long by chance, so each guess is one that is long enough in 19 of 20 cases.
        """
        running, known = max(1, self.scheduler.num_running), max(1, self.lengths.num_ended)
        share = upper_bound(request.number * GOLDEN % 1, running * known / (running + known))
        return self.lengths.draw(len(request.output), request.params.max_tokens or 1, share)

    def _held(self, request: Request) -> int:
        return request.max_known if self.scheduler.kv.preallocates else request.known

    @staticmethod
    def _first_token(run: _ForwardRun, own: _Prompt) -> float:
        """When a prompt gets its token; extrapolated if that takes too many stretches."""
        began, ahead = run.now, sum(one.pending + one.left for one in (*run.prompts, *run.waiting)) or 1.0
        for _ in range(MOST_EVENTS):
            run.admit()
            if run.prompts:
                if own in run.prompt_iteration():
                    return run.now
            elif run.ends:
                run.decode()
            else:
                return math.inf  # it never fits
        rest = sum(one.pending + one.left for one in (*run.prompts, *run.waiting))
        return run.now + (run.now - began) * rest / max(1.0, ahead - rest)

    @staticmethod
    def _forecast(run: _ForwardRun, own: _Prompt, at: float, arrival: float) -> Forecast:
        each = run.decode_seconds()
        ttft = at - arrival
        return Forecast(ttft, max(run.longest, each), each, ttft + each * max(0.0, own.left - 1))


def upper_bound(share: float, draws: float) -> float:
    """Upper bound (95 %) of a probability that was observed as a share of so many draws; `draws` is above 0.

    It is that of Wilson's score interval (1927).
    """
    square = DEVIATIONS**2 / draws
    return (share + square / 2 + math.sqrt(square * (share * (1 - share) + square / 4))) / (1 + square)
