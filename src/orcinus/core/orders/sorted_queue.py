"""A queue sorted by a number that never changes while requests wait."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass
from operator import itemgetter

from orcinus.core.request import Request
from orcinus.errors import ConfigError, shown

Entry = tuple[float, float, int, Request]  # rank, arrival, submission number
KEY = itemgetter(0, 1, 2)  # equal arrivals keep the order of submission


class SortedQueue:
    """Waiting requests by rank, the lowest first. Ranks are times in seconds.

    A rank is the arrival time plus a handicap, so waiting itself moves a request forward (aging), and the wait is bounded:
    only requests that arrive within the difference of the two handicaps can overtake it.
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def rank(self, request: Request) -> float:
        """A request's place in the queue; constant for the request's whole life."""
        raise NotImplementedError

    def add(self, request: Request) -> None:
        insort(self._entries, self._entry(request), key=KEY)

    def remove(self, request: Request) -> None:
        entry = self._entry(request)
        place = bisect_left(self._entries, KEY(entry), key=KEY)
        assert self._entries[place][3] is request, "a rank changed in the queue"
        del self._entries[place]

    def admit(self, request: Request) -> None:
        self.remove(request)

    def generated(self, request: Request, tokens: int) -> None:
        """Generated tokens change no rank."""

    def first(self, count: int) -> tuple[Request, ...]:
        return tuple(entry[3] for entry in self._entries[:count])

    def all(self) -> list[Request]:
        return [entry[3] for entry in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def _entry(self, request: Request) -> Entry:
        return self.rank(request), request.arrival, request.number, request


@dataclass
class AgingQueue(SortedQueue):
    """A queue where `aging` seconds of waiting offset one unit of handicap."""

    aging: float = 10.0

    def __post_init__(self) -> None:
        super().__init__()
        if not 0 < self.aging < math.inf:
            raise ConfigError(f"aging of a queue order must be above 0 seconds, not {shown(self.aging)}")
