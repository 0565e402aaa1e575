"""Admission and preemption: which requests hold K/V memory."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from itertools import takewhile
from operator import attrgetter

from orcinus.core.next_batch import NextBatch
from orcinus.core.ports import KVManager, Order
from orcinus.core.request import Failure, FinishCode, Request, Status
from orcinus.core.unserved import Reason
from orcinus.errors import PolicyError

PRECEDENCE = attrgetter("precedence")
SUBMISSION = attrgetter("arrival", "number")


def rejection_reason(request: Request, longest: int, max_model_len: int) -> Failure | None:
    """Why a request cannot be served even alone; None if it can.

    `longest` is the most tokens of a request that K/V memory could hold.
    """
    prompt, total = len(request.prompt), request.max_known
    lengths = f"prompt of {prompt} tokens + max_tokens {total - prompt}"
    if total > longest:
        advice = "shorten them or give the pool more memory"
        return Failure(FinishCode.NEVER_FITS, f"{lengths} never fit the K/V pool of {longest} tokens: {advice}")
    if total > max_model_len:
        advice = "shorten the prompt, lower max_tokens or raise max_model_len"
        return Failure(FinishCode.TOO_LONG, f"{lengths} = {total} exceed the model length of {max_model_len}: {advice}")
    return None


class Admission:
    """The waiting queue, and the running requests, which hold K/V memory.

    After the first failed admission no later request is admitted in that iteration. When blocks run out, the last running
    request in the queue's order loses its blocks and starts over later (recomputation). A request never preempts one that
    is ahead of it.
    """

    def __init__(self, kv: KVManager, order: Order) -> None:
        self.kv, self.waiting = kv, order
        self.running: list[Request] = []  # by precedence: the last one is preempted first
        self.preemptions = 0
        self._removed: list[str] = []

    def take_removed(self) -> tuple[str, ...]:
        """Ids that executors may forget, collected since the last call."""
        removed, self._removed = tuple(self._removed), []
        return removed

    def fits(self, request: Request) -> bool:
        """Whether a waiting request would be admitted now."""
        return self.kv.can_admit(request) and self.kv.ready(request)

    def admit(self, request: Request, batch: NextBatch) -> bool:
        """Admit a request if the batch and K/V memory have room.

        False if an earlier request was refused in this iteration, the batch is full, blocks are short, or another request is
        computing a prefix that both share.
        """
        if not batch.door_open:
            return False
        if batch.places <= 0:
            batch.refuse(request, Reason.BATCH_FULL)
            return False
        if not self.kv.ready(request):
            batch.refused[request] = Reason.NOT_READY  # nothing is short, so later requests may still be admitted
            return False
        if not self.kv.can_admit(request):
            batch.refuse(request, Reason.NO_BLOCKS)
            return False
        batch.places -= 1
        if not request.preemptions:  # ranked once: else two requests could preempt each other in turn
            request.rank = self.waiting.rank(request)
        self.waiting.admit(request)
        request.computed = self.kv.admit(request)
        request.status = Status.RUNNING
        insort(self.running, request, key=PRECEDENCE)
        return True

    def make_room(self, request: Request, count: int, batch: NextBatch) -> bool:
        """Extend the request's blocks by `count` tokens.

        While memory is short, the last running request is preempted. False if only requests ahead of this one, or requests in
        flight, could give way.
        """
        while not self.kv.grow(request, count):
            behind = list(takewhile(lambda other: other is not request, reversed(self.running)))
            victim = next((other for other in behind if not other.flights), None)
            if victim is None:  # keep its blocks; wait for requests ahead, or for the return of those behind
                batch.short_of_memory = bool(behind) and any(batch.overlap)
                batch.refuse(request, Reason.NO_BLOCKS)
                return False
            batch.drop(victim)
            self.preempt(victim)
            batch.refuse(victim, Reason.PREEMPTED)  # its blocks go to requests ahead of it, not behind it
        return True

    def preempt_wished(self, request: Request, batch: NextBatch) -> None:
        """Preempt a request that the policy named.

        A request in flight is preempted when its batch returns. Raises `PolicyError` if the request does not run.
        """
        if request not in self.running or request.finish:
            raise PolicyError(f"the policy preempts request {request.id!r}, which does not run")
        if request.flights:
            request.leaving = True
        else:
            self.preempt(request)
            batch.places += 1
        batch.refused[request] = Reason.PREEMPTED

    def preempt(self, victim: Request) -> None:
        """Preempt a running request: it waits again and starts over.

        It must not be in flight.
        """
        self.leave(victim)
        victim.status, victim.computed, victim.leaving = Status.WAITING, 0, False
        victim.preemptions += 1
        self.preemptions += 1
        self.waiting.add(victim)

    def leave(self, request: Request) -> None:
        """Release a request's blocks and its place in the batch.

        Executors may then forget it. It must not be in flight.
        """
        self.kv.release(request)
        if request in self.running:
            self.running.remove(request)
        if request.sent is not None:
            self._removed.append(request.id)
            request.sent = None

    def reorder(self, order: Order, requests: Iterable[Request]) -> None:
        """Move the queue into another order, and rank live requests anew."""
        for request in sorted(self.waiting.all(), key=SUBMISSION):
            order.add(request)
        self.waiting = order
        for request in requests:
            request.rank = order.rank(request)
        self.running.sort(key=PRECEDENCE)
