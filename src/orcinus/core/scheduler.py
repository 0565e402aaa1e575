"""The mechanism around a policy: queues, budget, admission, preemption. The only code that assigns to a Request."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import islice

from orcinus.core.batch import Batch, BatchResult, Chunk, Event, Finished, Logprobs, Token
from orcinus.core.ports import KVManager, Policy
from orcinus.core.request import Finish, Request, Status
from orcinus.core.view import Grant, Limits, View
from orcinus.errors import PolicyError


@dataclass(slots=True)
class _Draft:
    """A batch while it is being planned."""

    whole_budget: int
    budget: int  # what is left of it
    door_open: bool = True  # whether waiting requests may still be admitted in this iteration
    chunks: dict[Request, Chunk] = field(default_factory=dict)
    evicted: set[Request] = field(default_factory=set)


class Scheduler:
    """Carries out what a policy wishes, within the limits of the machine and of K/V memory.

    There is no prefill phase and no decode phase here, only `request.pending` tokens to run. Rules that no policy can
    break: a batch keeps within `limits`; one refusal closes the door, so nobody overtakes in the order of the policy; when
    blocks run out, the youngest request loses its own and starts over later (recomputation), never one older than the
    request in need.
    """

    def __init__(self, policy: Policy, kv: KVManager, limits: Limits) -> None:
        self.policy, self.kv, self.limits = policy, kv, limits
        self.preemptions = 0
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []  # oldest first
        self._requests: dict[str, Request] = {}
        self._held: list[Event] = []  # answers that wait for the end of their batch
        self._last_batch = 0

    @property
    def idle(self) -> bool:
        return not self._requests

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def why_never(self, request: Request) -> str | None:
        """Why this request could not be served even alone, or None if it could."""
        prompt, total, limit = len(request.prompt), request.max_known, self.limits.max_model_len
        if total > limit:
            return (
                f"prompt of {prompt} tokens + max_tokens {total - prompt} = {total} exceed the model length of {limit}: "
                "shorten the prompt, lower max_tokens or raise max_model_len"
            )
        if not self.kv.can_ever_hold(request):
            room = self.kv.num_blocks * self.kv.block_size
            return (
                f"prompt of {prompt} tokens + max_tokens {total - prompt} never fit the K/V pool of {room} tokens: "
                "shorten them or give the pool more memory"
            )
        return None

    def add(self, request: Request, now: float) -> list[Event]:
        """Queue a request, or reject it at the door if it could never run. Raises `PolicyError` on an id in use."""
        if request.id in self._requests:
            raise PolicyError(f"request id {request.id!r} is already in use")
        reason = self.why_never(request)
        if reason is not None:
            request.status, request.finish = Status.FINISHED, Finish.REJECTED
            return [Finished(request.id, Finish.REJECTED, now, reason)]
        self._requests[request.id] = request
        self._waiting.append(request)
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

    def plan(self, now: float) -> Batch | None:
        """The next batch, or None if nothing can run."""
        selection = self.policy.select(self._view(now))
        limit = self.limits.max_batch_tokens
        budget = limit if selection.token_budget is None else min(limit, max(0, selection.token_budget))
        draft = _Draft(budget, budget)
        for grant in selection.grants:
            if draft.budget == 0 or len(draft.chunks) == self.limits.max_batch_size:
                break
            self._serve(grant, draft)
        if not draft.chunks:
            return None
        for request in draft.chunks:
            request.in_flight = True
        self._last_batch += 1
        return Batch(self._last_batch, tuple(draft.chunks.values()))

    def apply(self, batch: Batch, result: BatchResult, now: float) -> list[Event]:
        """Write a result into the requests of its batch; returns what the world may hear of it."""
        events: list[Event] = []
        for row, (chunk, tokens) in enumerate(zip(batch.chunks, result.tokens, strict=True)):
            request = self._requests[chunk.request_id]
            request.in_flight = False
            if request.finish:  # cancelled while the batch ran
                self._forget(request)
            elif row in result.errors:
                events.append(self._finish(request, Finish.FAILED, now, result.errors[row]))
            else:
                request.computed += len(chunk.tokens)
                self.kv.commit(request)
                logprobs = result.logprobs[row] if result.logprobs else ()
                events += self._accept(request, tokens, logprobs, now)
        return self._release(events, now)

    def _view(self, now: float) -> View:
        free = tuple(request for request in self._running if not request.in_flight)
        waiting = tuple(islice(self._waiting, self.limits.lookahead))
        return View(now, free, waiting, len(self._running) - len(free), self.limits, self.kv.can_admit)

    def _serve(self, grant: Grant, draft: _Draft) -> None:
        """Give one grant its place in the batch, if there is room in every respect."""
        request = grant.request
        if request in draft.evicted:
            return
        self._check(request, draft)
        count = self._share(grant, draft)
        if count == 0:
            draft.door_open = False
            return
        if request.status is Status.WAITING:
            if not (draft.door_open and self._admit(request)):
                draft.door_open = False
                return
            count = min(count, request.pending)  # a prefix may have been found in memory
        if not self._make_room(request, count, draft):
            draft.door_open = False
            return
        draft.chunks[request] = self._chunk(request, count)
        draft.budget -= count

    def _check(self, request: Request, draft: _Draft) -> None:
        unknown = self._requests.get(request.id) is not request
        if unknown or request.in_flight or request.finish or request in draft.chunks:
            name = type(self.policy).__name__
            raise PolicyError(f"{name} granted request {request.id!r}, which is unknown, in flight, finished or granted before")

    def _share(self, grant: Grant, draft: _Draft) -> int:
        """Tokens the grant gets out of the budget that is left; 0 = it has to wait for another iteration.

        What may not be divided runs whole or waits, unless it is longer than any iteration: then it is cut all the same.
        """
        wanted = grant.request.pending if grant.at_most is None else min(grant.at_most, grant.request.pending)
        if wanted <= draft.budget or grant.divisible or wanted > draft.whole_budget:
            return max(0, min(wanted, draft.budget))
        return 0

    def _admit(self, request: Request) -> bool:
        if not self.kv.can_admit(request):
            return False
        request.computed = self.kv.admit(request)
        request.status = Status.RUNNING
        if self._waiting[0] is request:
            self._waiting.popleft()
        else:
            self._waiting.remove(request)
        place = len(self._running)
        while place and self._running[place - 1].arrival > request.arrival:
            place -= 1
        self._running.insert(place, request)
        return True

    def _make_room(self, request: Request, count: int, draft: _Draft) -> bool:
        """Let the request's blocks reach `count` tokens further, preempting younger ones while memory is short."""
        while not self.kv.grow(request, count):
            victim = next(r for r in reversed(self._running) if not r.in_flight and r not in draft.chunks)
            if victim is request:  # it is the youngest itself: it keeps what it has and waits for its elders
                return False
            self._preempt(victim, draft)
        return True

    def _preempt(self, victim: Request, draft: _Draft) -> None:
        self.kv.release(victim)
        self._running.remove(victim)
        victim.status, victim.computed = Status.WAITING, 0
        self._waiting.appendleft(victim)
        draft.evicted.add(victim)
        draft.door_open = False  # its memory is for the elders, not for whoever waits behind it
        self.preemptions += 1

    def _chunk(self, request: Request, count: int) -> Chunk:
        start, params = request.computed, request.params
        samples = start + count == request.known
        history = request.tokens(0, request.known) if samples and params.penalised else ()
        tokens = request.tokens(start, count)
        return Chunk(request.id, tokens, start, self.kv.blocks(request), samples, params, history, len(request.prompt))

    def _accept(self, request: Request, tokens: tuple[int, ...], logprobs: tuple[Logprobs, ...], now: float) -> list[Event]:
        events: list[Event] = []
        for index, token in enumerate(tokens):
            request.output.append(token)
            events.append(Token(request.id, token, now, logprobs[index] if logprobs else None))
            if token in request.params.stop_token_ids:
                return [*events, self._finish(request, Finish.STOP, now)]
            if request.known == request.max_known:
                return [*events, self._finish(request, Finish.LENGTH, now)]
        return events

    def _finish(self, request: Request, reason: Finish, now: float, error: str | None = None) -> Finished:
        if request.status is Status.WAITING:
            self._waiting.remove(request)
        request.status, request.finish = Status.FINISHED, reason
        if not request.in_flight:
            self._forget(request)
        return Finished(request.id, reason, now, error)

    def _forget(self, request: Request) -> None:
        """The request leaves: its blocks are free for the next iteration."""
        self.kv.release(request)
        if request in self._running:
            self._running.remove(request)
        del self._requests[request.id]

    def _release(self, events: list[Event], now: float) -> list[Event]:
        """What the world hears now: everything, or, if the policy holds answers, what was held until its batch ended."""
        if self.policy.holds_answers and self._running:
            self._held += events
            return []
        released, self._held = [replace(event, at=now) for event in self._held], []
        return released + events
