"""The requests of a run, one at a time, for any server."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Protocol

from orcinus.workload.arrival import Arrival
from orcinus.workload.processes import Closed
from orcinus.workload.workload import ClosedLoop, Workload


class Source(Protocol):
    """Requests in the order in which they come."""

    @property
    def next(self) -> Arrival | None:
        """The request that comes next, as far as is known now."""
        ...

    def take(self, request_id: str) -> None:
        """The next one has come, and has this id."""
        ...

    def ended(self, request_id: str, at: float) -> None:
        """A request has ended, at this second."""
        ...


class OpenLoop:
    """Requests of an open loop."""

    def __init__(self, arrivals: Iterator[Arrival]) -> None:
        self._arrivals = arrivals
        self.next = next(arrivals, None)

    def take(self, request_id: str) -> None:
        self.next = next(self._arrivals, None)

    def ended(self, request_id: str, at: float) -> None:
        """It makes no difference."""


class Following:
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

    def ended(self, request_id: str, at: float) -> None:
        following = self._loop.again(self._clients.pop(request_id), at)
        if following is not None:
            self._add(following)

    def _add(self, arrival: Arrival) -> None:
        self._known += 1
        heappush(self._coming, (arrival.at, self._known, arrival))


def source_of(workload: Workload) -> Source:
    """The requests of a workload, from the first on."""
    return Following(workload.loop()) if isinstance(workload.arrivals, Closed) else OpenLoop(iter(workload))
