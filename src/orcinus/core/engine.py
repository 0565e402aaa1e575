"""The loop of dispatch and settle (Orca, Algorithm 1).

The same object serves models and simulations.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from orcinus.core.batch import Batch, Event, Submitted
from orcinus.core.component_spec import spell
from orcinus.core.held_answers import HeldAnswers
from orcinus.core.ports import Clock, Executor, Observer, Order, Policy, Preparation
from orcinus.core.preparing import PreparingRequests
from orcinus.core.request import Finish, Request
from orcinus.core.scheduler import Scheduler
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.errors import PolicyError, Stalled


class Engine:
    """Keeps `executor.depth` batches in flight, and connects requests, executor and observers.

    Not thread-safe: one thread calls `submit`, `cancel` and `step`. A simulation calls the two halves of `step` itself,
    `dispatch` and `settle`, because requests also arrive while batches are in flight. An observer that raises is dropped;
    `on_dropped` hears which, and why. Requests that need a `preparation` reach the scheduler when it has ended.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        clock: Clock,
        observers: Sequence[Observer] = (),
        on_dropped: Callable[[Observer, Exception], None] | None = None,
        preparation: Preparation | None = None,
    ) -> None:
        self.scheduler, self.executor, self.clock = scheduler, executor, clock
        self.on_dropped = on_dropped
        self.observers = list(observers)
        self.dropped_observers: list[tuple[Observer, Exception]] = []
        self._in_flight: deque[tuple[Batch, float]] = deque()  # with their launch times
        self._returned = -math.inf  # when the last batch returned
        self._held = HeldAnswers()
        self._preparing = PreparingRequests(preparation)

    @property
    def idle(self) -> bool:
        return self.scheduler.idle and not self._in_flight and not self._preparing

    @property
    def num_waiting(self) -> int:
        """Number of requests that wait to be admitted, or to become ready."""
        return self.scheduler.num_waiting + len(self._preparing)

    def submit(self, request: Request) -> list[Event]:
        """Queue a request. Returns its rejection if it can never be served.

        Raises `PolicyError`, and changes nothing, if a live request has the same id.
        """
        if request.id in self._preparing:
            raise PolicyError(f"request id {request.id!r} is already in use")
        if self.scheduler.rejection_reason(request) is None and self._preparing.hold(request):
            return []
        return self._add(request)

    def _add(self, request: Request) -> list[Event]:
        events, r = self.scheduler.add(request, self.clock.now()), request
        submitted = Submitted(r.id, r.prompt, r.params, r.arrival, r.context, tuple(r.output))
        self._tell(lambda observer: observer.on_submit(submitted))
        return self._announce(events)

    def cancel(self, request_id: str, reason: Finish = Finish.CANCELLED) -> list[Event]:
        """End a request: the next batch no longer contains it.

        Does nothing if it has ended. `reason` is STOP when the caller found a stop string in the text.
        """
        now = self.clock.now()
        if (request := self._preparing.withdraw(request_id)) is not None:
            self._add(request)  # observers hear of every request
        events = self.scheduler.cancel(request_id, now, reason)
        events = self._held.cancel(request_id, reason, now) or events  # it ended already, or ends with the tokens it has
        if events:
            self._tell(lambda observer: observer.on_cancel(request_id, reason, now))
        return self._announce([*events, *self._hold([], now)])

    def use(self, policy: Policy | None = None, order: Order | None = None, limits: Limits | None = None) -> None:
        """Switch policy, queue order or limits, from the next iteration on.

        Requests in the engine stay as they are. Raises `ConfigError` if the limits do not suit the requests already accepted.
        """
        self.scheduler.use(policy, order, limits)
        now, chosen = self.clock.now(), self.scheduler
        spelled = spell(chosen.policy), spell(chosen.order)
        self._tell(lambda observer: observer.on_use(*spelled, chosen.limits, now))

    def step(self) -> list[Event]:
        """Fill the pipeline, wait for the oldest batch, and return its events.

        Raises `Stalled` if requests wait and none of them can ever be selected.
        """
        self.dispatch()
        return self.settle()

    def close(self) -> None:
        self.executor.close()
        self._tell(lambda observer: observer.on_close())

    def dispatch(self) -> None:
        """Start batches until `executor.depth` are in flight or nothing can run."""
        for request in self._preparing.take_ready():
            self._add(request)
        while len(self._in_flight) < self.executor.depth:
            now = self.clock.now()
            planned = self.scheduler.plan(now, self.executor.overlap)
            if planned is None:
                return
            self._launch(*planned, now)

    def _launch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self._in_flight.append((batch, now))
        self.executor.submit(batch)
        self._tell(lambda observer: observer.on_batch(batch, unserved, now))

    def settle(self) -> list[Event]:
        """Wait for the oldest batch in flight, and return its events.

        Raises `Stalled` as `step` does.
        """
        if not self._in_flight:
            if self._preparing:
                self._preparing.wait()
            elif not self.scheduler.idle:
                raise Stalled(
                    f"{self.scheduler.num_waiting} requests wait, {self.scheduler.num_running} hold K/V memory, nothing is in "
                    f"flight, and {type(self.scheduler.policy).__name__} selected none of them: this policy has a defect"
                )
            return []
        result = self.executor.collect()
        (batch, launched), now = self._in_flight.popleft(), self.clock.now()
        began = max(launched, self._returned) if self.executor.overlap.decode else launched  # batches run one after the other
        self.scheduler.step_time.learn(batch, now - began)
        self._returned = now
        self._tell(lambda observer: observer.on_step(batch, result, now))
        return self._announce(self._hold(self.scheduler.apply(batch, result, now), now))

    def _hold(self, events: list[Event], now: float) -> list[Event]:
        """The events to announce now.

        Under a request-level policy there are none until the batch has ended.
        """
        hold = self.scheduler.policy.holds_answers and self.scheduler.num_running > 0
        return self._held.passed(events, now, hold=hold)

    def _announce(self, events: list[Event]) -> list[Event]:
        if events:
            self._tell(lambda observer: observer.on_events(events))
        return events

    def _tell(self, call: Callable[[Observer], None]) -> None:
        """Call every observer, and drop one that raises.

        Watching must never break what is watched.
        """
        for observer in tuple(self.observers):
            try:
                call(observer)
            except Exception as error:
                self.observers.remove(observer)
                self.dropped_observers.append((observer, error))
                if self.on_dropped is not None:
                    self.on_dropped(observer, error)
