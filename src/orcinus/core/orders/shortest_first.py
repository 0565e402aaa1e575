"""The requests with the fewest tokens left first."""

from __future__ import annotations

from orcinus.core.orders.sorted_queue import AgingQueue
from orcinus.core.request import Request


class ShortestFirst(AgingQueue):
    """By the tokens still to run: prompt plus `max_tokens`.

    `aging` seconds of waiting make up for 1000 tokens. A request waits at most for those that arrive less than
    (its tokens - theirs) x aging / 1000 seconds after it. If `max_tokens` is close to the real lengths of answers, the mean
    wait is mostly shorter than in order of arrival. It is not the shortest possible: many requests run at once, running ones
    are not interrupted for shorter ones, and aging keeps a part of the order of arrival.
    """

    def rank(self, request: Request) -> float:
        return request.arrival + request.max_known * self.aging / 1000
