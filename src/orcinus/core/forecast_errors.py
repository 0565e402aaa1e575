"""Errors of forecasts: the margin that makes 99 of 100 promises true."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

WINDOW = 1024  # promises whose errors are remembered
LATE = 0.001  # share of waits that may exceed forecast + margin; in one late wait many requests are late
FEW = 12  # waits after which half of the error that is assumed at first is left
UNITS = (0.1, 0.3, 0.7)  # of the bound: added to a forecast before errors are compared with it
WAITED = 0.1  # of the bound: shorter forecasts show no errors of waits
FORGOTTEN_S = 60.0  # age of errors that no longer count


class _ForecastError(NamedTuple):
    """A promise whose first token, or end, is known."""

    at: float
    errors: tuple[float, ...]  # in each unit
    apart: bool  # whether it came after the one counted before it had ended
    waited: bool


class ForecastErrors:
    """Errors of the forecasts of one metric, relative to the forecast and a part of its bound.

    How errors grow with the forecast is not known: those of a wait for a place do, those of a pause of the machine do not. A
    quantile may be taken in any unit, and each allows for the same share of late promises; the unit is chosen in which requests
    may wait longest. Of few errors even the largest is exceeded too often: it is extrapolated as if errors had an exponential
    tail. The largest of n such errors is expected at H(n) times their mean, the n-th harmonic number, and the wanted quantile
    is at -ln(LATE) times it. Requests that wait at the same time are late together, so n counts promises one after the other.
    """

    def __init__(self, at_first: float) -> None:
        self._seen: deque[_ForecastError] = deque()
        self._sorted = tuple(list[float]() for _ in UNITS)  # the same errors, in order
        self._counted, self._last = 0, -math.inf  # promises of which no two ran at the same time; the end of the last of them
        self._at_first, self._waits = at_first, 0  # relative error that is assumed before any is seen; waits seen so far
        self._quantile: tuple[float, float] | None = None  # unit, and error in it; None: new errors came

    def add(self, at: float, measured: float, predicted: float, bound: float) -> None:
        """Learn from a promise, at a time. All are seconds."""
        errors = tuple((measured - predicted) / (predicted + unit * bound) for unit in UNITS)
        apart, waited = at - measured >= self._last, predicted > WAITED * bound
        if apart:
            self._last = at
        self._seen.append(_ForecastError(at, errors, apart, waited))
        self._counted, self._waits = self._counted + apart, self._waits + waited
        for known, error in zip(self._sorted, errors, strict=True):
            insort(known, error)
        while len(self._seen) > WINDOW or self._seen[0].at < at - FORGOTTEN_S:
            old = self._seen.popleft()
            self._counted, self._waits = self._counted - old.apart, self._waits - old.waited
            for known, error in zip(self._sorted, old.errors, strict=True):
                del known[bisect_left(known, error)]
        self._quantile = None

    def margin(self, predicted: float, bound: float) -> float:
        """Seconds to add to a forecast, so that 99 of 100 promises are kept."""
        if self._quantile is None:
            found = ((unit, _exceeded_by_few(known, self._counted)) for unit, known in zip(UNITS, self._sorted, strict=True))
            self._quantile = max(found, key=_longest_forecast)
        unit, error = self._quantile
        unsure = self._at_first * FEW / (FEW + self._waits)
        return max(error * (predicted + unit * bound), unsure * (predicted + UNITS[0] * bound))


def _exceeded_by_few(known: Sequence[float], counted: int) -> float:
    """The error that a share `LATE` of `counted` waits exceeds, at least 0; errors are in ascending order."""
    if not known:
        return 0.0
    found = known[-1 - int(LATE * counted)]
    if counted < 1 / LATE:
        found *= max(1.0, -math.log(LATE) / _harmonic(max(1, counted)))
    return max(0.0, found)


def _longest_forecast(quantile: tuple[float, float]) -> float:
    """The longest forecast that is within its bound with this margin, as a share of the bound."""
    unit, error = quantile
    return (1 - error * unit) / (1 + error)


def _harmonic(count: int) -> float:
    """The sum of 1/k for k up to a count above 0, nearly."""
    return math.log(count) + 0.5772 + 0.5 / count
