"""Urgent requests first."""

from __future__ import annotations

from dataclasses import dataclass

from orcinus.core.orders.sorted_queue import SortedQueue
from orcinus.core.request import Request
from orcinus.errors import ConfigError


@dataclass
class Priority(SortedQueue):
    """By `priority`, lower first, as in vLLM; `aging` seconds of waiting make up for one level, so nothing starves.

    A request waits at most for those that arrive less than (its priority - theirs) x aging seconds after it.
    """

    aging: float = 10.0  # seconds

    def __post_init__(self) -> None:
        super().__init__()
        if not self.aging > 0:
            raise ConfigError(f"aging of the order 'priority' must be above 0 seconds, not {self.aging!r}")

    def rank(self, request: Request) -> float:
        return request.arrival + request.priority * self.aging
