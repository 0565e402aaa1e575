"""Sources: a run's requests one at a time, for any server."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Protocol

from orcinus.workload.arrival import Arrival
from orcinus.workload.processes import Closed
from orcinus.workload.workload import ClosedLoop, Workload


class Source(Protocol):
    """Yields a workload's requests in order of arrival."""

    @property
    def next(self) -> Arrival | None:
        """The next request, as far as it is known now."""
        ...

    def take(self, request_id: str) -> None:
        """The next request has arrived, under this id."""
        ...

    def ended(self, request_id: str, at: float) -> None:
        """A request ended at this time, in seconds."""
        ...


class OpenLoop:
    """The requests of an open loop."""

    def __init__(self, arrivals: Iterator[Arrival]) -> None:
        self._arrivals = arrivals
        self.next = next(arrivals, None)

    def take(self, request_id: str) -> None:
        self.next = next(self._arrivals, None)

    def ended(self, request_id: str, at: float) -> None:
        """Does nothing: arrivals of an open loop do not depend on endings."""


class Following:
    """The requests of a closed loop, each after an answer."""

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
    """The source of a workload, from its first request on."""
    return Following(workload.loop()) if isinstance(workload.arrivals, Closed) else OpenLoop(iter(workload))
