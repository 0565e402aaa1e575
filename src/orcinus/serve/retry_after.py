"""Retry-After: predicts when a refused request will find room.

Predictions count the promises made before.
"""

from __future__ import annotations

import bisect
import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LEAST_S, MOST_S = 1, 3600
LEAST_MARGIN, MOST_MARGIN = 1.5, 8.0
SHARED = 0.8  # share of the slots that is promised: clients come at any time within their second
PROMPTS_S = 1.0  # for prompts, which come before the first token
BROKEN, KEPT = 1.5, 0.98  # factors of the margin after a broken and a kept promise: balanced at one broken of 21
HELD_S = 1.0  # a place is held this long before its promise is due
LATE_S = 2.0  # that a client may be late
FRESH = 20  # iterations until their mean is better than the fastest of them: the first are prompts
LIKELY = 512  # tokens
UNKNOWN_S = 0.05  # seconds of an iteration before the first one
SURE = 0.9  # answers whose lengths are remembered
REMEMBERED = 64  # answers


class Progress(NamedTuple):
    """Tokens of a live answer so far, and its limit."""

    tokens: int
    limit: int  # its max_tokens

    @property
    def guess(self) -> float:
        """The expected length before any answer has ended.

        Few answers need all of a high limit.
        """
        return min(self.limit, LIKELY + self.limit / 16)


@dataclass
class RetryAfter:
    """Learns from iterations, endings and kept promises.

    Times are seconds of `clock`. The next client that comes when a promise is due is taken for the promised one. New clients
    may have taken its place, so a margin on all promises grows with broken promises and shrinks with kept ones.
    """

    slots: int  # most answers in one iteration, or with several replicas, in one of each
    clock: Callable[[], float] = time.monotonic
    replicas: int = 1
    _seconds: float = 0.0  # of an iteration, on average
    _fastest: float = math.inf
    _iterations: int = 0
    _shares: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # used shares of answers' limits
    _due: list[float] = field(default_factory=list)  # times when refused answers may come, in order
    _margin: float = LEAST_MARGIN
    _widened: float = -math.inf  # when the margin last grew
    _saturated: dict[int, int] = field(default_factory=dict)  # replica -> answers that run while others wait, or 0

    def on_iteration(self, seconds: float, running: int, waiting: int, replica: int = 0) -> None:
        """Learn from a replica's iteration."""
        if seconds <= 0:
            return
        self._iterations += 1
        self._fastest = min(self._fastest, seconds)
        self._seconds += (seconds - self._seconds) / min(self._iterations, FRESH)
        self._saturated[replica] = running if waiting else 0

    def on_death(self, replica: int, *, returns: bool = False) -> None:
        """Remove a dead replica's slots, unless it is started again."""
        self._saturated.pop(replica, None)
        if self.replicas > 1 and not returns:
            self.slots -= self.slots // self.replicas
            self.replicas -= 1

    def on_end(self, answer: Progress) -> None:
        """Learn from a complete answer."""
        self._shares.append(answer.tokens / max(1, answer.limit))

    def on_enter(self) -> None:
        """Note an admitted request, which may have been promised its room."""
        if self._take_due():
            self._margin = max(LEAST_MARGIN, self._margin * KEPT)

    def held(self, inside: int) -> int:
        """Places held back for clients that were promised one.

        When a promise is due, the next client is taken for the promised one. None are held while the engine has room itself.
        """
        now = self.clock()
        coming = bisect.bisect(self._due, now + HELD_S) - bisect.bisect_left(self._due, now - LATE_S)
        due = bisect.bisect(self._due, now) > bisect.bisect_left(self._due, now - LATE_S)
        return 0 if due or inside < self.slots else coming

    def promise(self, answers: int, free: int, live: Iterable[Progress], others: int = 0) -> int:
        """Seconds until these answers have places; records the promise.

        `free` places there are now. `live` are the answers inside, oldest first; `others` are inside as well, but not yet in
        the engine.
        """
        now = self.clock()
        if self._take_due() and now - self._widened >= LATE_S:  # clients that come together prove one mistake, not several
            self._margin, self._widened = min(MOST_MARGIN, self._margin * BROKEN), now
        inside = list(live)
        left = [self._left(one) for one in inside]
        typical = (sum(left) + sum(one.tokens for one in inside)) / len(left) if left else 1.0
        ends = sorted(self._ends(left + [typical] * (others + len(self._due) + answers)))
        seconds = math.ceil(self._gap(now, answers, free, ends, typical * self._iteration) - now)
        seconds = max(LEAST_S, min(MOST_S, seconds))
        for _ in range(answers):
            bisect.insort(self._due, now + seconds)
        return seconds

    def own_room(self, answers: int, free: int, live: Sequence[tuple[Progress, bool]]) -> int:
        """Seconds until enough of a client's own answers have ended.

        Nothing is promised. `answers` are those that it asks for; `free` of its places are left. `live` are all answers, oldest
        first, and whether they are the client's.
        """
        ends = self._ends([self._left(one) for one, _ in live])
        own = sorted(end for end, (_, its) in zip(ends, live, strict=True) if its)
        if not own:  # its answers are not in the engine yet
            return LEAST_S
        seconds = PROMPTS_S + self._margin * own[max(0, min(len(own), answers - free) - 1)]
        return max(LEAST_S, min(MOST_S, math.ceil(seconds)))

    def _gap(self, now: float, answers: int, free: int, ends: Sequence[float], length_s: float) -> float:
        """The earliest time with room for these and all promised answers.

        Near that time, promises may not exceed the places that come free: `SHARED` of the slots in the time of an answer.
        """
        length_s, most = self._margin * length_s, max(1, int(SHARED * self._slots))
        at = now
        while at < now + MOST_S:
            place = answers - free + bisect.bisect(self._due, at)
            enough = now + PROMPTS_S + self._margin * ends[max(0, min(len(ends), place) - 1)]
            near = bisect.bisect(self._due, at + length_s / 2) - bisect.bisect(self._due, at - length_s / 2)
            if at >= enough and near + answers <= max(most, answers):
                break
            at = max(enough, at + max(length_s / self._slots, 0.1))
        return at

    def _take_due(self) -> bool:
        """Remove the oldest due promise, if any, and all forgotten ones."""
        now = self.clock()
        del self._due[: bisect.bisect_left(self._due, now - LATE_S)]
        due = bool(self._due) and self._due[0] <= now
        if due:
            del self._due[0]
        return due

    @property
    def _iteration(self) -> float:
        """Mean seconds of an iteration."""
        if self._iterations >= FRESH:
            return self._seconds
        return self._fastest if self._iterations else UNKNOWN_S

    @property
    def _slots(self) -> int:
        """Answers that run at once while others wait."""
        if self._iterations < FRESH:
            return self.slots
        full = [running for running in self._saturated.values() if running]
        return sum(full) + self.slots * (self.replicas - len(full)) // self.replicas

    def _left(self, answer: Progress) -> float:
        """Expected tokens that an answer still needs."""
        shares = sorted(self._shares)
        length = shares[min(len(shares) - 1, int(SURE * len(shares)))] * answer.limit if shares else answer.guess
        return max(1.0, max(length, min(answer.limit, 2 * answer.tokens)) - answer.tokens)

    def _ends(self, left: Sequence[float]) -> list[float]:
        """The end of each answer, by its tokens left.

        Answers beyond the slots wait for one.
        """
        running = [0.0] * max(1, min(self._slots, len(left)))
        ends = []
        for tokens in left:
            end = running[0] + tokens * self._iteration
            heapq.heapreplace(running, end)
            ends.append(end)
        return ends
