"""Submitted requests that wait for a preparation, such as a grammar."""

from __future__ import annotations

from orcinus.core.ports import Preparation
from orcinus.core.request import Request

WAIT_S = 0.01  # a caller may have something else to do, such as to read messages


class PreparingRequests:
    """Holds requests back until they are ready, in submission order.

    The scheduler never sees them, so they hold up no other request. A record of iterations has their submission at the moment
    when they are ready: a replay, which prepares nothing, then makes the same decisions.
    """

    def __init__(self, preparation: Preparation | None) -> None:
        self._preparation = preparation
        self._held: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._held

    def hold(self, request: Request) -> bool:
        """Begin a request's preparation; returns whether it has to wait."""
        if self._preparation is None:
            return False
        self._preparation.begin(request)
        if self._preparation.ready(request):
            return False
        self._held[request.id] = request
        return True

    def take_ready(self) -> list[Request]:
        """Remove and return the requests that are ready now."""
        if not self._held or self._preparation is None:
            return []
        ready = [request for request in self._held.values() if self._preparation.ready(request)]
        for request in ready:
            del self._held[request.id]
        return ready

    def withdraw(self, request_id: str) -> Request | None:
        """Remove and return a request that has not become ready."""
        return self._held.pop(request_id, None)

    def wait(self) -> None:
        """Wait a moment for a request to become ready."""
        if self._preparation is not None:
            self._preparation.wait(tuple(self._held.values()), WAIT_S)
