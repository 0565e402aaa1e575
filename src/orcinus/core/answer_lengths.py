"""Lengths of answers, learnt from those that ended."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter, neg

WINDOW = 512  # answers remembered
FRESH = 1 / 32  # share of the answers that may be new before the distribution is estimated again
LIKELY = 512  # tokens of an answer before any has ended, if its limit is higher
RARE = 0.02  # share of answers below which the tail is too thin to estimate


class AnswerLengths:
    """The distribution of output lengths, by Kaplan and Meier's estimator (1958).

    An answer that `max_tokens` cut says only that it would have been at least so long: it is a censored observation. So
    answers that always reach their limits are expected to, whatever the limits are. The `live` ones, which are not
    complete, are censored too: otherwise the short ones, which end first, would count too much. Their values are the tokens
    so far.
    """

    def __init__(self, live: Mapping[str, int]) -> None:
        self._live = live
        self._seen: deque[tuple[int, bool]] = deque(maxlen=WINDOW)  # length, and whether it was cut
        self._fresh = 0  # observations since the last estimate
        self._cuts: list[float] = []  # lengths at which the share of longer answers falls
        self._shares: list[float] = []  # of answers longer than each of them
        self._areas: list[float] = []  # integral of that share up to each of them

    @property
    def num_ended(self) -> int:
        """Number of answers that the distribution was learnt from."""
        return len(self._seen)

    def learn(self, tokens: int, *, cut: bool) -> None:
        """Add an answer; `cut` says that its limit ended it."""
        self._seen.append((tokens, cut))
        self._fresh += 1

    def left(self, so_far: int, limit: int) -> float:
        """Expected tokens still to come of an answer that has `so_far`; at least 1."""
        if not self._seen:
            return max(1.0, min(limit, LIKELY + limit / 16) - so_far)
        self._estimate_if_stale()
        share = self._shares[bisect_right(self._cuts, so_far) - 1]
        if share < RARE:  # longer than nearly all before: as much again
            return max(1.0, min(limit - so_far, so_far))
        return max(1.0, (self._area(limit) - self._area(so_far)) / share)

    def draw(self, so_far: int, limit: int, share: float) -> float:
        """Tokens still to come, more than in this share (0 to 1) of such answers; at least 1.

        Equally spaced shares over many answers spread their ends as the real ones are spread; expected lengths would not.
        """
        if not self._seen:
            return max(1.0, min(limit - so_far, -math.log(1 - share) * (LIKELY + limit / 16)))
        self._estimate_if_stale()
        longer = self._shares[bisect_right(self._cuts, so_far) - 1]
        if longer < RARE:
            return max(1.0, min(limit - so_far, 2 * share * so_far))
        place = bisect_left(self._shares, -longer * (1 - share), key=neg)  # shares fall
        length = self._cuts[place] if place < len(self._cuts) else limit
        return max(1.0, min(length, limit) - so_far)

    def _area(self, tokens: int) -> float:
        place = bisect_right(self._cuts, tokens) - 1
        return self._areas[place] + self._shares[place] * (tokens - self._cuts[place])

    def _estimate_if_stale(self) -> None:
        if self._fresh <= FRESH * len(self._seen):
            return
        self._fresh = 0
        self._cuts, self._shares, self._areas = [0.0], [1.0], [0.0]
        seen = sorted([*self._seen, *((tokens, True) for tokens in self._live.values())])
        at_risk = len(seen)
        for length, group in groupby(seen, key=itemgetter(0)):
            cuts = [cut for _, cut in group]
            if ended := cuts.count(False):
                self._areas.append(self._areas[-1] + self._shares[-1] * (length - self._cuts[-1]))
                self._shares.append(self._shares[-1] * (1 - ended / at_risk))
                self._cuts.append(float(length))
            at_risk -= len(cuts)
