"""Times at which refused requests may come again, and the room held for them."""

from __future__ import annotations

import bisect
import math

SOON_S, LATE_S = 0.25, 10.0  # that one may come early (and room is held), or late, as over a slow network
MOST_S = 3600
HOLD = 0.8  # share of the engine that is promised to those who come again
SPREAD = 1 / 16  # weight of the newest observation of who comes back
BROKEN, KEPT = 1.5, 0.98  # factors of the room that is held, after a broken and a kept promise: balanced at one of 21
MOST_RESERVE = 8.0
SATURATED_S = 2.0  # an ending so soon after a refusal shows the engine's pace


class ReturnTimes:
    """Gives every refused request a time of its own, at the pace at which the engine ends requests.

    A request is known again by a key. Room is held for those who were told to come, in proportion to the share of them that
    does: a client that goes away costs nothing for long.
    """

    def __init__(self) -> None:
        self._due: list[float] = []  # times told, in order
        self._by_key: dict[int, list[float]] = {}  # each in order
        self._keys: dict[float, int] = {}
        self._obedient = 0.5  # share of those who come when they were told to
        self.reserve = 1.5  # factor of the room that is held: grows when a promise is broken
        self.guess = 0.0  # seconds between two endings, before any was seen
        self._refused = -math.inf  # time of the last refusal
        self._last = -math.inf  # time of the last ending
        self._seconds = self._endings = 0.0  # while saturated: their ratio is the pace; older ones fade

    @property
    def seen(self) -> bool:
        """Whether the pace was observed."""
        return self._endings > 0

    @property
    def each(self) -> float:
        """Seconds of the engine that one request takes when it is saturated."""
        return self._seconds / self._endings if self._endings else self.guess

    def ended(self, at: float) -> None:
        """A request ended."""
        if at - self._refused < SATURATED_S and at - self._last < SATURATED_S:
            self._seconds, self._endings = 0.99 * self._seconds + at - self._last, 0.99 * self._endings + 1
        self._last = at

    def take(self, key: int, now: float) -> float | None:
        """The time that this request was told, if it comes when it was told to."""
        self._forget(now)
        dues = self._by_key.get(key)
        if not dues or dues[0] > now + SOON_S:
            return None
        due = dues[0]
        self._remove(due)
        self._obedient += SPREAD * (1 - self._obedient)
        return due

    def accepted(self, told: float | None) -> None:
        """A request was accepted; `told` is the time that it was told."""
        if told is not None:
            self.reserve = max(1.0, self.reserve * KEPT)

    def held(self, now: float, until: float, free: int = 0) -> float:
        """Seconds that a request must leave to others who were told to come until then.

        It is the longest queue of theirs: the engine serves them while they come. The first of them find `free` places, where
        they need not wait.
        """
        self._forget(now)
        each = self.each * self._obedient * self.reserve
        first, last = bisect.bisect(self._due, now - SOON_S), bisect.bisect(self._due, until)
        queues = (place * each - max(0.0, due - now) for place, due in enumerate(self._due[first:last], 1 - free))
        return max(0.0, *queues) if last > first else 0.0

    def full(self, now: float) -> None:
        """A request was refused although no room was held: the engine is saturated."""
        self._refused = now

    def book(self, key: int, now: float, late: float, told: float | None, *, hold: bool, patience: float = math.inf) -> int:
        """Whole seconds after which a refused request should come again.

        It would be `late` seconds too late now. `patience` are the seconds that it can wait when it comes: those who are told
        the same time wait for each other.
        """
        if told is not None:
            self.reserve = min(MOST_RESERVE, self.reserve * BROKEN)
        wait = max(1, math.ceil(late))
        spacing = self.each * self.reserve * max(self._obedient, 0.1) / HOLD  # seconds between two promises
        window = max(1.0, spacing)
        most, together = max(1.0, window / spacing), max(1.0, patience / self.each) if self.each else math.inf
        while wait < MOST_S and (self._booked(now + wait, window) >= most or self._booked(now + wait, 2 * SOON_S) >= together):
            wait += 1
        if hold:
            self._add(key, now + wait)
        return wait

    def _booked(self, at: float, window: float) -> int:
        """Promises in a window around a time."""
        return bisect.bisect(self._due, at + window / 2) - bisect.bisect(self._due, at - window / 2)

    def _add(self, key: int, due: float) -> None:
        while due in self._keys:
            due = math.nextafter(due, math.inf)
        bisect.insort(self._due, due)
        self._keys[due] = key
        bisect.insort(self._by_key.setdefault(key, []), due)

    def _remove(self, due: float) -> None:
        del self._due[bisect.bisect_left(self._due, due)]
        key = self._keys.pop(due)
        self._by_key[key].remove(due)
        if not self._by_key[key]:
            del self._by_key[key]

    def _forget(self, now: float) -> None:
        """Give up those who are too late."""
        while self._due and self._due[0] < now - LATE_S:
            self._remove(self._due[0])
            self._obedient -= SPREAD * self._obedient
