"""The mechanism around a policy: plan an iteration, apply its result.

Only this module, `admission`, `advance` and `deltas` write requests.
"""

from __future__ import annotations

from orcinus.core.admission import Admission, rejection_reason
from orcinus.core.advance import advance
from orcinus.core.batch import Batch, BatchResult, Event, Finished
from orcinus.core.deltas import build_batch
from orcinus.core.drafts import active, drafts_for
from orcinus.core.next_batch import NextBatch
from orcinus.core.orders.fcfs import FCFS
from orcinus.core.ports import Drafter, KVManager, Order, Policy
from orcinus.core.request import Failure, Finish, Overlap, Request, Status
from orcinus.core.step_time import StepTime
from orcinus.core.unserved import Reason, Unserved
from orcinus.core.view import Grant, Limits, View
from orcinus.errors import ConfigError, PolicyError

NO_OVERLAP = Overlap()


class Scheduler:
    """Carries out a policy's wishes within the machine's and K/V memory's limits.

    There is no prefill phase and no decode phase here, only `request.pending` tokens to run. A `drafter` guesses tokens after
    decodes; they are run and verified in the same iteration, and use budget that would be left over.
    """

    def __init__(
        self, policy: Policy, kv: KVManager, limits: Limits, order: Order | None = None, drafter: Drafter | None = None
    ) -> None:
        self.policy, self.kv, self.limits, self.drafter = policy, kv, limits, drafter
        self.step_time = StepTime()
        self.admission = Admission(kv, FCFS() if order is None else order)
        self._requests: dict[str, Request] = {}
        self._last_batch = 0
        self._submissions = 0

    @property
    def idle(self) -> bool:
        return not self._requests

    @property
    def order(self) -> Order:
        return self.admission.waiting

    @property
    def running(self) -> tuple[Request, ...]:
        """The requests that hold K/V memory, in order of precedence."""
        return tuple(self.admission.running)

    @property
    def num_waiting(self) -> int:
        return len(self.admission.waiting)

    @property
    def num_running(self) -> int:
        return len(self.admission.running)

    def use(self, policy: Policy | None = None, order: Order | None = None, limits: Limits | None = None) -> None:
        """Switch policy, order or limits; requests stay as they are. Raises `ConfigError`.

        `max_model_len` cannot change: every request was accepted under it. An order equal to the present one keeps its counts.
        """
        if limits is not None and limits.max_model_len != self.limits.max_model_len:
            raise ConfigError(f"max_model_len cannot change while the engine lives: keep {self.limits.max_model_len}")
        if order is not None and order is not self.order:
            if len(order):
                raise ConfigError("this queue order is in use elsewhere: give the engine one of its own")
            if order != self.order:
                self.admission.reorder(order, self._requests.values())
        self.policy, self.limits = policy or self.policy, limits or self.limits

    def rejection_reason(self, request: Request) -> Failure | None:
        """Why the request cannot be served even alone; None if it can.

        Raises `PolicyError` for a used id.
        """
        if request.id in self._requests:
            raise PolicyError(f"request id {request.id!r} is already in use")
        return rejection_reason(request, self.kv.longest, self.limits.max_model_len)

    def add(self, request: Request, now: float) -> list[Event]:
        """Queue a request, or reject it. Raises `PolicyError` for a used id."""
        failure = self.rejection_reason(request)
        if failure is not None:
            request.status, request.finish = Status.FINISHED, Finish.REJECTED
            return [Finished(request.id, Finish.REJECTED, now, failure.text, failure.code)]
        self._requests[request.id] = request
        self._submissions += 1
        request.number = self._submissions
        self.order.add(request)
        return []

    def cancel(self, request_id: str, now: float, reason: Finish = Finish.CANCELLED) -> list[Event]:
        """End a request in any state. Unknown and ended ones are ignored."""
        request = self._requests.get(request_id)
        if request is None or request.finish is not None:
            return []
        return [self._finish(request, reason, now)]

    def plan(self, now: float, overlap: Overlap = NO_OVERLAP) -> tuple[Batch, Unserved] | None:
        """The next batch and the reasons of unserved requests; None without one.

        `overlap` says which requests in flight the batch may include. Raises `PolicyError` for an impossible selection.
        """
        drafter = active(self.drafter, self.num_running)
        if drafter is not None:  # drafts need the newest token, so no decode is scheduled ahead
            overlap = overlap._replace(decode=False)
        view = self.view(now, overlap)
        selection = self.policy.select(view)
        limit = self.limits.max_batch_tokens
        budget = limit if selection.token_budget is None else min(limit, max(0, selection.token_budget))
        running = len(view.running)
        batch = NextBatch(self._last_batch + 1, budget, budget, self.limits.max_batch_size - running, overlap, running, drafter)
        for request in selection.preempt:
            self.admission.preempt_wished(request, batch)
        others = selection.otherwise
        for grant in selection.grants:
            if batch.budget == 0 or len(batch.shares) == self.limits.max_batch_size:
                others = Reason.BATCH_FULL if batch.budget else Reason.BUDGET_SPENT
                break
            self._serve(grant, batch)
            if batch.short_of_memory:
                others = Reason.NO_BLOCKS
                break
        if not batch.shares:
            return None
        reasons, behind = batch.left_out(view, others)
        self._last_batch = batch.id
        made = build_batch(batch.id, batch.shares, self.kv, self.admission.take_removed())
        return made, Unserved(reasons, behind, self.num_waiting, self.num_running, self.kv.num_free)

    def view(self, now: float, overlap: Overlap = NO_OVERLAP) -> View:
        """What the policy would see now."""
        running = self.admission.running
        free = tuple([one for one in running if not one.flights or one.schedulable_ahead(overlap, self._last_batch)])
        places = self.limits.max_batch_size - (0 if getattr(self.policy, "preempts", False) else len(free))
        waiting = self.order.first(min(self.limits.lookahead, 2 * max(0, places)))  # twice: some may not be ready
        busy, fits = len(running) - len(free), self.admission.fits
        return View(now, free, waiting, len(self.order), busy, self.limits, fits, self.step_time, self._last_batch)

    def _serve(self, grant: Grant, batch: NextBatch) -> None:
        """Add a granted request to the batch, if all limits allow it."""
        request = grant.request
        if batch.refused.get(request) is Reason.PREEMPTED:
            return
        busy = request.flights and not request.schedulable_ahead(batch.overlap, self._last_batch)
        if busy or request in batch.shares or self._requests.get(request.id) is not request:
            name = type(self.policy).__name__
            raise PolicyError(f"{name} granted request {request.id!r}, which is unknown, in flight, finished or granted before")
        pending = request.pending
        count = batch.tokens_for(grant, pending)
        if count == 0:
            batch.refuse(request, Reason.BUDGET_SPENT)
            return
        if request.status is Status.WAITING:
            if not self.admission.admit(request, batch):
                return
            pending = request.pending
            count = min(count, pending)  # a part may have been found in the prefix cache
        drafts = drafts_for(self.kv, grant, batch, batch.drafter) if batch.drafter is not None else ()
        if not self.admission.make_room(request, count, batch):
            return
        batch.add(request, count, count == pending, drafts)

    def apply(self, batch: Batch, result: BatchResult, now: float) -> list[Event]:
        """Write a batch's result into its requests. Returns the events."""
        events: list[Event] = []
        for row, (chunk, tokens) in enumerate(zip(batch.chunks, result.tokens, strict=True)):
            request = self._requests[chunk.request_id]
            request.flights = request.flights[1:]
            if request.finish:  # cancelled while the batch ran, or ended by the batch before
                self._forget(request)
            elif row in result.errors:
                events.append(self._finish(request, Finish.FAILED, now, result.errors[row]))
            else:
                if row in result.prompt_logprobs:  # overwrites: a preempted request computes them again
                    request.prompt_logprobs[chunk.start :] = result.prompt_logprobs[row]
                logprobs = result.logprobs[row] if result.logprobs else ()
                before = len(events)
                ending = advance(request, chunk, tokens, logprobs, now, events)
                self.kv.commit(request)
                if tokens:
                    self.order.generated(request, len(events) - before)
                if ending is not None:
                    events.append(self._finish(request, ending, now))
                if request.leaving and not request.flights and not request.finish:
                    self.admission.preempt(request)
        return events

    def _finish(self, request: Request, reason: Finish, now: float, failure: Failure | None = None) -> Finished:
        if request.status is Status.WAITING:
            self.order.remove(request)
        request.status, request.finish = Status.FINISHED, reason
        self._forget(request)
        return Finished(request.id, reason, now, failure and failure.text, failure and failure.code)

    def _forget(self, request: Request) -> None:
        """Remove an ended request, and free its blocks, unless in flight."""
        if not request.flights:
            self.admission.leave(request)
            del self._requests[request.id]
