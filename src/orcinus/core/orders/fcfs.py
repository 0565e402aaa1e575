"""First come, first served."""

from __future__ import annotations

from orcinus.core.orders.sorted_queue import SortedQueue
from orcinus.core.request import Request


class FCFS(SortedQueue):
    """Waiting requests by arrival alone.

    A preempted request arrived before all that wait, so it comes first.
    """

    def rank(self, request: Request) -> float:
        return request.arrival
