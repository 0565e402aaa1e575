"""Discrete events: requests arrive at a router, and batches end on replicas. Nothing here decides what runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Protocol

from orcinus.core.batch import Event, Finished
from orcinus.sim.clock import VirtualClock
from orcinus.sim.replica import Replica
from orcinus.sim.router import Router
from orcinus.workload.arrival import Arrival
from orcinus.workload.processes import Closed
from orcinus.workload.workload import ClosedLoop, Workload

EVERY = 128  # arrivals and endings of batches between two questions whether it is over


class Source(Protocol):
    """Where requests come from, one at a time."""

    @property
    def next(self) -> Arrival | None:
        """The request that comes next, as far as is known now."""
        ...

    def take(self, request_id: str) -> None:
        """The next one has come, and has this id."""
        ...

    def heard(self, ended: Finished) -> None:
        """A request has ended."""
        ...


class OpenLoop:
    """Requests that come whatever happens."""

    def __init__(self, arrivals: Iterator[Arrival]) -> None:
        self._arrivals = arrivals
        self.next = next(arrivals, None)

    def take(self, request_id: str) -> None:
        self.next = next(self._arrivals, None)

    def heard(self, ended: Finished) -> None:
        """It makes no difference."""


class _Following:
    """Requests that follow answers."""

    def __init__(self, loop: ClosedLoop) -> None:
        self._loop = loop
        self._coming: list[tuple[float, int, Arrival]] = []
        self._known = 0
        self._clients: dict[str, str] = {}  # request -> its client
        for arrival in loop.first():
            self._add(arrival)

    @property
    def next(self) -> Arrival | None:
        return self._coming[0][2] if self._coming else None

    def take(self, request_id: str) -> None:
        self._clients[request_id] = heappop(self._coming)[2].client

    def heard(self, ended: Finished) -> None:
        following = self._loop.again(self._clients.pop(ended.request_id), ended.at)
        if following is not None:
            self._add(following)

    def _add(self, arrival: Arrival) -> None:
        self._known += 1
        heappush(self._coming, (arrival.at, self._known, arrival))


def source_of(workload: Workload) -> Source:
    """The requests of a workload, from the first on."""
    return _Following(workload.loop()) if isinstance(workload.arrivals, Closed) else OpenLoop(iter(workload))


class Simulation:
    """Replicas behind a router, on one clock. Memory is linear in the requests that are live, not in those that come."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        router: Router,
        clock: VirtualClock,
        watch: Callable[[int], None] | None = None,
        over: Callable[[], bool] | None = None,
    ) -> None:
        self.replicas, self.router, self.clock = replicas, router, clock
        self.watch = watch  # is told how many requests have ended, whenever one does
        self.over = over  # is asked now and then whether nobody cares for the rest
        self.ended_early = False
        self.submitted = self.ended = 0
        self._turns = 0
        self._ends: list[tuple[float, int]] = []  # heap of (when its oldest batch ends, replica); those out of date are skipped

    def run(self, source: Source) -> None:
        """Serve every request to its end, unless it is `over` before. Raises `Stalled` if some stay unserved for ever."""
        while not self._over():
            end, coming = self._next_end(), source.next
            if coming is not None and (end is None or coming.at <= end):
                self._arrive(source, max(coming.at, self.clock.now()))
            elif end is not None:
                _, index = heappop(self._ends)
                self._hear(source, self.replicas[index].settle())
                self._note(index)
            else:
                break
        for replica in self.replicas:
            if not (replica.engine.idle or self.ended_early):
                replica.engine.step()  # says why it stands still
            replica.engine.close()

    def _over(self) -> bool:
        self._turns += 1
        if self.over is not None and self._turns % EVERY == 0:
            self.ended_early = self.over()
        return self.ended_early

    def _arrive(self, source: Source, now: float) -> None:
        """Everything that comes at this moment, before anything is decided about any of it."""
        self.clock.jump(now)
        visited: set[int] = set()
        while (arrival := source.next) is not None and arrival.at <= now:
            request_id = str(self.submitted)
            self.submitted += 1
            source.take(request_id)
            replica = self.router.choose(arrival, self.replicas)
            visited.add(replica.index)
            self._hear(source, replica.submit(request_id, arrival))
        for index in visited:
            self.replicas[index].dispatch()
            self._note(index)

    def _hear(self, source: Source, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self.ended += 1
                source.heard(event)
                if self.watch is not None:
                    self.watch(self.ended)

    def _note(self, index: int) -> None:
        end = self.replicas[index].next_end
        if end is not None:
            heappush(self._ends, (end, index))

    def _next_end(self) -> float | None:
        """When the next batch ends, on any replica."""
        while self._ends:
            end, index = self._ends[0]
            if end == self.replicas[index].next_end:
                return end
            heappop(self._ends)
        return None
