"""Requests with little left to do first."""

from __future__ import annotations

from orcinus.core.orders.sorted_queue import AgingQueue
from orcinus.core.request import Request


class ShortestFirst(AgingQueue):
    """By the tokens still to run, prompt and the most that may be generated; `aging` seconds make up for 1000 of them.

    A request waits at most for those that arrive less than (its tokens - theirs) x aging / 1000 seconds after it. The
    mean waiting time is the shortest there is if `max_tokens` tells the truth about the lengths of answers.
    """

    def rank(self, request: Request) -> float:
        return request.arrival + request.max_known * self.aging / 1000
