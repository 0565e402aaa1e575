"""The mechanism around a policy: queues, budget, admission, preemption. The only code that assigns to a Request."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from itertools import takewhile
from operator import attrgetter

from orcinus.core.batch import Batch, BatchResult, Chunk, Event, Finished, Reason, Token, Unserved, at_moment
from orcinus.core.orders.fcfs import FCFS
from orcinus.core.ports import KVManager, Order, Policy
from orcinus.core.request import Finish, Logprobs, Request, Status
from orcinus.core.step_time import StepTime
from orcinus.core.view import Grant, Limits, View
from orcinus.errors import ConfigError, PolicyError

PRECEDENCE = attrgetter("precedence")
SUBMISSION = attrgetter("arrival", "number")


@dataclass(slots=True)
class _Draft:
    """A batch while it is being planned."""

    whole_budget: int
    budget: int  # what is left of it
    places: int  # for requests that are not running yet
    chains: bool = False  # whether requests in flight may be carried on
    door_open: bool = True  # whether waiting requests may still be admitted in this iteration
    drain: bool = False  # memory is short, and who has to give some is in flight: nobody is carried on until that is back
    chunks: dict[Request, Chunk] = field(default_factory=dict)
    refused: dict[Request, Reason] = field(default_factory=dict)

    def refuse(self, request: Request, reason: Reason) -> None:
        """It goes without, and so does everybody behind it in the queue."""
        self.refused[request] = reason
        self.door_open = False


class Scheduler:
    """Carries out what a policy wishes, within the limits of the machine and of K/V memory.

    There is no prefill phase and no decode phase here, only `request.pending` tokens to run. Rules that no policy can
    break: a batch keeps within `limits`; after the first refusal no later request is admitted in that iteration; when
    blocks run out, the running request that is last in the queue's order loses its own and starts over later
    (recomputation), never one ahead of the request in need.
    """

    def __init__(self, policy: Policy, kv: KVManager, limits: Limits, order: Order | None = None) -> None:
        self.policy, self.kv, self.limits = policy, kv, limits
        self.step_time = StepTime()
        self.preemptions = 0
        self._waiting: Order = FCFS() if order is None else order
        self._running: list[Request] = []  # by precedence: the last one gives way first
        self._requests: dict[str, Request] = {}
        self._held: list[Event] = []  # answers that wait for the end of their batch
        self._last_batch = 0
        self._submissions = 0

    @property
    def idle(self) -> bool:
        return not self._requests

    @property
    def order(self) -> Order:
        return self._waiting

    def use(self, policy: Policy | None = None, order: Order | None = None, limits: Limits | None = None) -> None:
        """Decide differently from the next iteration on; requests stay as they are. Raises `ConfigError`.

        `max_model_len` cannot change: every request was accepted under it. An order equal to the present one keeps its counts.
        """
        if limits is not None and limits.max_model_len != self.limits.max_model_len:
            raise ConfigError(f"max_model_len cannot change while the engine lives: keep {self.limits.max_model_len}")
        if order is not None and order is not self._waiting:
            if len(order):
                raise ConfigError("this queue order is in use elsewhere: give the engine one of its own")
            if order != self._waiting:
                self._reorder(order)
        self.policy, self.limits = policy or self.policy, limits or self.limits

    def _reorder(self, order: Order) -> None:
        """Queue and running requests stand in another order from now on."""
        for request in sorted(self._waiting.all(), key=SUBMISSION):
            order.add(request)
        self._waiting = order
        for request in self._requests.values():
            request.rank = order.rank(request)
        self._running.sort(key=PRECEDENCE)

    @property
    def running(self) -> tuple[Request, ...]:
        """The requests that hold K/V memory, by precedence."""
        return tuple(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def rejection_reason(self, request: Request) -> str | None:
        """Why this request could not be served even alone, or None if it could."""
        prompt, total, limit = len(request.prompt), request.max_known, self.limits.max_model_len
        if not self.kv.can_ever_hold(request):
            room = self.kv.num_blocks * self.kv.block_size
            return (
                f"prompt of {prompt} tokens + max_tokens {total - prompt} never fit the K/V pool of {room} tokens: "
                "shorten them or give the pool more memory"
            )
        if total > limit:
            return (
                f"prompt of {prompt} tokens + max_tokens {total - prompt} = {total} exceed the model length of {limit}: "
                "shorten the prompt, lower max_tokens or raise max_model_len"
            )
        return None

    def add(self, request: Request, now: float) -> list[Event]:
        """Queue a request, or reject it at the door if it could never run. Raises `PolicyError` on an id in use."""
        if request.id in self._requests:
            raise PolicyError(f"request id {request.id!r} is already in use")
        reason = self.rejection_reason(request)
        if reason is not None:
            request.status, request.finish = Status.FINISHED, Finish.REJECTED
            return [Finished(request.id, Finish.REJECTED, now, reason)]
        self._requests[request.id] = request
        self._submissions += 1
        request.number = self._submissions
        self._waiting.add(request)
        return []

    def cancel(self, request_id: str, now: float, reason: Finish = Finish.CANCELLED) -> list[Event]:
        """End a request now, wherever it is. Without effect if it is unknown or has ended."""
        request = self._requests.get(request_id)
        if request is not None and request.finish is None:
            ending = self._finish(request, reason, now)
        elif any(event.request_id == request_id for event in self._held):  # it ended, but its answer is still held
            ending = Finished(request_id, reason, now)
        else:
            return []
        self._held = [event for event in self._held if event.request_id != request_id]
        return [ending, *self._release([], now)]

    def plan(self, now: float, *, chains: bool = False) -> Batch | None:
        """The next batch, or None if nothing can run.

        If the executor `chains`, it may carry on requests that are in flight: decodes whose token is not known yet, and the
        next chunks of prompts.
        """
        view = self._view(now, chains)
        selection = self.policy.select(view)
        limit = self.limits.max_batch_tokens
        budget = limit if selection.token_budget is None else min(limit, max(0, selection.token_budget))
        draft = _Draft(budget, budget, self.limits.max_batch_size - len(view.running), chains)
        others = selection.otherwise
        for grant in selection.grants:
            if draft.budget == 0 or len(draft.chunks) == self.limits.max_batch_size:
                others = Reason.BATCH_FULL if draft.budget else Reason.BUDGET_SPENT
                break
            self._serve(grant, draft)
            if draft.drain:
                others = Reason.NO_BLOCKS
                break
        if not draft.chunks:
            return None
        self._last_batch += 1
        for request, chunk in draft.chunks.items():
            request.in_flight += 1
            request.flying += len(chunk.tokens)
            request.promised += (self._last_batch,) if chunk.samples else ()
        return Batch(self._last_batch, tuple(draft.chunks.values()), self._unserved(view, draft, others))

    def _unserved(self, view: View, draft: _Draft, others: Reason) -> Unserved:
        full = len(view.running) >= view.limits.max_batch_size
        reasons = {request.id: others for request in view.running if request not in draft.chunks}
        reasons |= {request.id: reason for request, reason in draft.refused.items() if request not in draft.chunks}
        behind = Reason.BATCH_FULL if full else others if draft.door_open else Reason.BEHIND
        return Unserved(reasons, behind, len(self._waiting), len(self._running), self.kv.num_free)

    def apply(self, batch: Batch, result: BatchResult, now: float) -> list[Event]:
        """Write a result into the requests of its batch; returns what the world may hear of it."""
        events: list[Event] = []
        for row, (chunk, tokens) in enumerate(zip(batch.chunks, result.tokens, strict=True)):
            request = self._requests[chunk.request_id]
            self._came_back(request, chunk)
            if request.finish:  # cancelled while the batch ran, or ended by the token that it followed
                self._forget(request)
            elif row in result.errors:
                events.append(self._finish(request, Finish.FAILED, now, result.errors[row]))
            else:
                request.computed += len(chunk.tokens)
                self.kv.commit(request)
                if row in result.prompt_logprobs:  # from its place on, for a preempted request begins again
                    request.prompt_logprobs[chunk.start :] = result.prompt_logprobs[row]
                logprobs = result.logprobs[row] if result.logprobs else ()
                events += self._accept(request, tokens, logprobs, now)
        return self._release(events, now)

    def _came_back(self, request: Request, chunk: Chunk) -> None:
        """One of the batches that it is part of is not in flight any more."""
        request.in_flight -= 1
        request.flying -= len(chunk.tokens)
        if chunk.samples:
            request.promised = request.promised[1:]

    def _view(self, now: float, chains: bool) -> View:
        free = tuple(r for r in self._running if not r.in_flight or (chains and r.goes_on and not r.finish))
        places = max(0, self.limits.max_batch_size - len(free))
        waiting = self._waiting.first(min(self.limits.lookahead, 2 * places))  # twice, for some may not be ready
        return View(
            now, free, waiting, len(self._waiting), len(self._running) - len(free), self.limits, self._fits, self.step_time
        )

    def _fits(self, request: Request) -> bool:
        return self.kv.can_admit(request) and self.kv.ready(request)

    def _serve(self, grant: Grant, draft: _Draft) -> None:
        """Give one grant its place in the batch, if there is room in every respect."""
        request = grant.request
        if draft.refused.get(request) is Reason.PREEMPTED:
            return
        self._check(request, draft)
        pending = request.pending
        count = self._share(grant, pending, draft)
        if count == 0:
            draft.refuse(request, Reason.BUDGET_SPENT)
            return
        if request.status is Status.WAITING:
            if not self._admit(request, draft):
                return
            pending = request.pending  # a prefix may have been found in memory
            count = min(count, pending)
        if not self._make_room(request, count, draft):
            draft.refuse(request, Reason.NO_BLOCKS)
            return
        draft.chunks[request] = self._chunk(request, count, samples=count == pending)
        draft.budget -= count

    def _check(self, request: Request, draft: _Draft) -> None:
        unknown = self._requests.get(request.id) is not request
        busy = request.in_flight and not (draft.chains and request.goes_on)
        if unknown or busy or request.finish or request in draft.chunks:
            name = type(self.policy).__name__
            raise PolicyError(f"{name} granted request {request.id!r}, which is unknown, in flight, finished or granted before")

    def _share(self, grant: Grant, pending: int, draft: _Draft) -> int:
        """Tokens the grant gets out of the budget that is left; 0 = it has to wait for another iteration.

        What may not be divided runs whole or waits, unless it is longer than any iteration: then it is cut all the same.
        """
        wanted = pending if grant.at_most is None else min(grant.at_most, pending)
        if wanted <= draft.budget or grant.divisible or wanted > draft.whole_budget:
            return max(0, min(wanted, draft.budget))
        return 0

    def _admit(self, request: Request, draft: _Draft) -> bool:
        """Let a request in, unless the door is closed, the batch full, memory short, or its prefix about to be computed."""
        if not draft.door_open:
            return False
        if draft.places <= 0:
            draft.refuse(request, Reason.BATCH_FULL)
            return False
        if not self.kv.ready(request):
            draft.refused[request] = Reason.NOT_READY  # nothing is short, so the door stays open for those behind it
            return False
        if not self.kv.can_admit(request):
            draft.refuse(request, Reason.NO_BLOCKS)
            return False
        draft.places -= 1
        if not request.preemptions:  # once for its whole life, or two requests could preempt each other in turn
            request.rank = self._waiting.rank(request)
        self._waiting.admit(request)
        request.computed = self.kv.admit(request)
        request.cached = request.cached if request.preemptions else request.computed
        request.status = Status.RUNNING
        insort(self._running, request, key=PRECEDENCE)
        return True

    def _make_room(self, request: Request, count: int, draft: _Draft) -> bool:
        """Let the request's blocks reach `count` tokens further. While memory is short, the last running request gives way."""
        while not self.kv.grow(request, count):
            behind = list(takewhile(lambda other: other is not request, reversed(self._running)))
            victim = next((other for other in behind if not other.in_flight), None)
            if victim is None:  # it keeps what it has and waits for those ahead, or for the return of those behind
                draft.drain = draft.chains and bool(behind)
                return False
            self._preempt(victim, draft)
        return True

    def _preempt(self, victim: Request, draft: _Draft) -> None:
        """Take a request's blocks, out of the batch being planned if need be; it starts over later."""
        chunk = draft.chunks.pop(victim, None)
        draft.budget += len(chunk.tokens) if chunk else 0
        self.kv.release(victim)
        self._running.remove(victim)
        victim.status, victim.computed = Status.WAITING, 0
        victim.preemptions += 1
        self._waiting.add(victim)
        draft.refuse(victim, Reason.PREEMPTED)  # its memory is for those ahead of it, not for those behind it
        self.preemptions += 1

    def _chunk(self, request: Request, count: int, *, samples: bool) -> Chunk:
        start, params, prompt = request.launched, request.params, len(request.prompt)
        scores = params.prompt_logprobs is not None and start < prompt
        history = request.history() if scores or (samples and params.needs_history) else ()
        follows = request.promised[-1] if start >= request.known else None
        tokens = request.tokens(start, count) if follows is None else (0,)  # any token, for nobody knows it yet
        return Chunk(request.id, tokens, start, self.kv.blocks(request), samples, params, history, prompt, follows)

    def _accept(self, request: Request, tokens: tuple[int, ...], logprobs: tuple[Logprobs, ...], now: float) -> list[Event]:
        events: list[Event] = []
        if tokens:
            request.newest_token = now
            self._waiting.generated(request, len(tokens))
        for index, token in enumerate(tokens):
            scored = request.params.prompt_logprobs is not None and not request.output
            request.output.append(token)
            prompt = tuple(request.prompt_logprobs) if scored else None
            events.append(Token(request.id, token, now, logprobs[index] if logprobs else None, prompt))
            ending = self._ending(request, token, now)
            if ending:
                return events + ending
        return events

    def _ending(self, request: Request, token: int, now: float) -> list[Event]:
        """The end of a request, if its newest token is one."""
        if token in request.params.stop_token_ids:
            return [self._finish(request, Finish.STOP, now)]
        if len(request.output) == request.params.max_tokens:
            return [self._finish(request, Finish.LENGTH, now)]
        return []

    def _finish(self, request: Request, reason: Finish, now: float, error: str | None = None) -> Finished:
        if request.status is Status.WAITING:
            self._waiting.remove(request)
        request.status, request.finish = Status.FINISHED, reason
        self._forget(request)
        return Finished(request.id, reason, now, error)

    def _forget(self, request: Request) -> None:
        """A request that has ended leaves with its last batch: its blocks are free for the next iteration."""
        if request.in_flight:
            return
        self.kv.release(request)
        if request in self._running:
            self._running.remove(request)
        del self._requests[request.id]

    def _release(self, events: list[Event], now: float) -> list[Event]:
        """What the world hears now: everything, or, if the policy holds answers, what was held until its batch ended."""
        if self.policy.holds_answers:
            self._held += events
            events = []
            if self._running:
                return events
        released, self._held = [at_moment(event, now) for event in self._held], []
        return released + events
