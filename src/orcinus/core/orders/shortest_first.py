"""Requests with little left to do first."""

from __future__ import annotations

from dataclasses import dataclass

from orcinus.core.orders.sorted_queue import SortedQueue
from orcinus.core.request import Request
from orcinus.errors import ConfigError


@dataclass
class ShortestFirst(SortedQueue):
    """By the tokens still to run, prompt and the most that may be generated; `aging` seconds make up for 1000 of them.

    A request waits at most for those that arrive less than (its tokens - theirs) x aging / 1000 seconds after it. The
    mean waiting time is the shortest there is if `max_tokens` tells the truth about the lengths of answers.
    """

    aging: float = 10.0  # seconds per 1000 tokens

    def __post_init__(self) -> None:
        super().__init__()
        if not self.aging > 0:
            raise ConfigError(f"aging of the order 'shortest-first' must be above 0 seconds, not {self.aging!r}")

    def rank(self, request: Request) -> float:
        return request.arrival + (request.max_known - request.computed) * self.aging / 1000
