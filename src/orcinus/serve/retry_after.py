"""Retry-After: predicts when a refused request will find room.

Earlier promises are taken into account.
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
SHARED = 0.8  # of the slots are promised: clients come when they like within their second
PROMPTS_S = 1.0  # for what is read before the first token
BROKEN, KEPT = 1.5, 0.98  # what a broken and a kept promise make of the margin: balanced at one broken of 21
HELD_S = 1.0  # before it is due, a promised place is held
LATE_S = 2.0  # that a client may take longer than it was told
FRESH = 20  # iterations until their mean says more than the fastest of them: the first are prompts
LIKELY = 512  # tokens
UNKNOWN_S = 0.05  # an iteration's seconds, before there was one
SURE = 0.9  # of answers are no longer than expected
REMEMBERED = 64  # answers


class Progress(NamedTuple):
    """How far a live answer is."""

    tokens: int
    limit: int  # its max_tokens

    @property
    def guess(self) -> float:
        """Guess of its length before any answer has ended.

        Few answers need all of a high limit.
        """
        return min(self.limit, LIKELY + self.limit / 16)


@dataclass
class RetryAfter:
    """Learns from iterations and endings, and from how its promises ended. Times are seconds of `clock`.

    Who comes when a promise is due is taken for the client that has it. New clients may have taken its place, so a margin on
    all promises grows with those that are broken, and shrinks with those that are kept.
    """

    slots: int  # most answers in one iteration, or with several replicas, in one of each
    clock: Callable[[], float] = time.monotonic
    replicas: int = 1
    _seconds: float = 0.0  # of an iteration, on average
    _fastest: float = math.inf
    _iterations: int = 0
    _shares: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # of their limit that answers needed
    _due: list[float] = field(default_factory=list)  # when answers that were refused may come, in order
    _margin: float = LEAST_MARGIN
    _widened: float = -math.inf  # when the margin last grew
    _saturated: dict[int, int] = field(default_factory=dict)  # of replicas: answers that run while others wait, or 0

    def on_iteration(self, seconds: float, running: int, waiting: int, replica: int = 0) -> None:
        """An iteration of a replica came back."""
        if seconds <= 0:
            return
        self._iterations += 1
        self._fastest = min(self._fastest, seconds)
        self._seconds += (seconds - self._seconds) / min(self._iterations, FRESH)
        self._saturated[replica] = running if waiting else 0

    def on_death(self, replica: int) -> None:
        """A replica is gone, with its slots."""
        self._saturated.pop(replica, None)
        if self.replicas > 1:
            self.slots -= self.slots // self.replicas
            self.replicas -= 1

    def on_end(self, answer: Progress) -> None:
        """An answer is complete."""
        self._shares.append(answer.tokens / max(1, answer.limit))

    def on_enter(self) -> None:
        """A request found room: it may be one that was promised it."""
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
        """Seconds until so many answers have a place; the promise is remembered.

        `free` places there are now. `live` are the answers inside, oldest first; `others` are inside as well, but not yet in
        the engine.
        """
        now = self.clock()
        if self._take_due() and now - self._widened >= LATE_S:  # those who come together were wrong together
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
        """Seconds until enough of a client's own answers have ended for so many more; nothing is promised.

        `free` of the client's places are left. `live` are all answers, oldest first, and whether they are the client's.
        """
        ends = self._ends([self._left(one) for one, _ in live])
        own = sorted(end for end, (_, its) in zip(ends, live, strict=True) if its)
        if not own:  # its answers are not in the engine yet
            return LEAST_S
        seconds = PROMPTS_S + self._margin * own[max(0, min(len(own), answers - free) - 1)]
        return max(LEAST_S, min(MOST_S, math.ceil(seconds)))

    def _gap(self, now: float, answers: int, free: int, ends: Sequence[float], length_s: float) -> float:
        """The earliest time with room for these and all earlier promises.

        Around it no more places may be promised than come free there: `SHARED` of the slots in the time of an answer.
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
        """Seconds of an iteration."""
        if self._iterations >= FRESH:
            return self._seconds
        return self._fastest if self._iterations else UNKNOWN_S

    @property
    def _slots(self) -> int:
        """How many answers run at a time when others wait."""
        if self._iterations < FRESH:
            return self.slots
        full = [running for running in self._saturated.values() if running]
        return sum(full) + self.slots * (self.replicas - len(full)) // self.replicas

    def _left(self, answer: Progress) -> float:
        """Tokens that it probably still needs."""
        shares = sorted(self._shares)
        length = shares[min(len(shares) - 1, int(SURE * len(shares)))] * answer.limit if shares else answer.guess
        return max(1.0, max(length, min(answer.limit, 2 * answer.tokens)) - answer.tokens)

    def _ends(self, left: Sequence[float]) -> list[float]:
        """When each of these answers ends, by its tokens left; those behind wait for a slot."""
        running = [0.0] * max(1, min(self._slots, len(left)))
        ends = []
        for tokens in left:
            end = running[0] + tokens * self._iteration
            heapq.heapreplace(running, end)
            ends.append(end)
        return ends
