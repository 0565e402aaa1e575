"""Errors of forecasts: the margin that makes 99 of 100 promises true."""

from __future__ import annotations

import math
from collections import deque
from heapq import nlargest

WINDOW = 256  # promises whose errors are remembered
LATE = 0.007  # share of promises that may be worse than forecast + margin: 1 %, less a reserve
FEW = 6  # promises after which half of the error that is assumed at first is left
UNITS = (0.1, 0.3, 0.7)  # of the bound: added to a forecast before errors are compared with it
FORGOTTEN_S = 60.0  # age of errors that no longer count


class ForecastErrors:
    """Errors of the forecasts of one metric, relative to the forecast and a part of its bound.

    How errors grow with the forecast is not known: those of a wait for a place do, those of a pause of the machine do not. A
    quantile may be taken in any unit, and each allows for the same share of late promises; the unit is chosen in which requests
    may wait longest. Of few errors even the largest is exceeded too often: it is extrapolated as if errors had an exponential
    tail. The largest of n such errors is expected at H(n) times their mean, the n-th harmonic number, and the wanted quantile
    is at -ln(LATE) times it.
    """

    def __init__(self, at_first: float) -> None:
        self._seen: deque[tuple[float, float, float, float]] = deque(maxlen=WINDOW)  # time, error, forecast, bound
        self._at_first, self._made = at_first, 0  # relative error that is assumed before any is seen; promises so far
        self._quantile: tuple[float, float] | None = None  # unit, and error in it; None: new errors came

    def add(self, at: float, measured: float, predicted: float, bound: float) -> None:
        """Learn from a promise, at a time. All are seconds."""
        self._seen.append((at, measured - predicted, predicted, bound))
        self._made += 1
        while self._seen[0][0] < at - FORGOTTEN_S:  # a disturbance of the machine must not narrow the door for long
            self._seen.popleft()
        self._quantile = None

    def margin(self, predicted: float, bound: float) -> float:
        """Seconds to add to a forecast: 1 % of all promises then take longer."""
        if self._quantile is None:
            self._quantile = max(((unit, self._exceeded_by_few(unit)) for unit in UNITS), key=_longest_forecast)
        unit, error = self._quantile
        unsure = self._at_first * FEW / (FEW + self._made) if self._made < WINDOW else 0.0
        return max(error * (predicted + unit * bound), unsure * (predicted + UNITS[0] * bound))

    def _exceeded_by_few(self, unit: float) -> float:
        """The error that 1 % of promises exceed, at least 0."""
        count = len(self._seen)
        late = nlargest(int(LATE * count) + 1, (error / (seconds + unit * bound) for _, error, seconds, bound in self._seen))
        found = late[-1] if late else 0.0
        if 0 < count < 1 / LATE:
            found *= max(1.0, -math.log(LATE) / _harmonic(count))
        return max(0.0, found)


def _longest_forecast(quantile: tuple[float, float]) -> float:
    """The longest forecast that is within its bound with this margin, as a share of the bound."""
    unit, error = quantile
    return (1 - error * unit) / (1 + error)


def _harmonic(count: int) -> float:
    """The sum of 1/k for k up to a count above 0, nearly."""
    return math.log(count) + 0.5772 + 0.5 / count
