"""First come, first served."""

from __future__ import annotations

from orcinus.core.orders.sorted_queue import SortedQueue
from orcinus.core.request import Request


class FCFS(SortedQueue):
    """By arrival alone: nobody is ever overtaken in the queue. A preempted request arrived before all who wait."""

    def rank(self, request: Request) -> float:
        return request.arrival
