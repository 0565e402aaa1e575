"""Urgent requests first."""

from __future__ import annotations

from orcinus.core.orders.sorted_queue import AgingQueue
from orcinus.core.request import Request


class Priority(AgingQueue):
    """By `priority`, lower first, as in vLLM.

    `aging` seconds of waiting make up for one level, so no request starves. A request waits at most for those that arrive
    less than (its priority - theirs) x aging seconds after it.
    """

    def rank(self, request: Request) -> float:
        return request.arrival + request.context.priority * self.aging
