"""Whether a quantity of a long run stays flat."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST = 8  # points of each half


class Allowed(NamedTuple):
    """How much a quantity may grow in a run: a share of its median, or an amount if that is more."""

    share: float
    amount: float


class Flatness(NamedTuple):
    """How a quantity grew after the warm-up, in its own unit."""

    median: float
    growth: float  # steady growth in the whole time measured
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it grew no more than allowed."""
        return bool(self.growth <= self.allowed)


def slope(times: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """The median of the slopes between all pairs of points (Theil 1950, Sen 1968): a few wild points do not move it."""
    first, second = np.triu_indices(len(times), 1)
    apart = times[second] > times[first]
    first, second = first[apart], second[apart]
    return float(np.median((values[second] - values[first]) / (times[second] - times[first])))


def flatness(times: ArrayLike, values: ArrayLike, allowed: Allowed) -> Flatness:
    """Steady growth: what both halves of the time, or of the requests, have in common.

    A leak goes on in the second half. A step, such as an arena that the allocator adds once, is in one of them only.
    Raises `ValueError` for fewer than `FEWEST` points in a half.
    """
    at, of = np.asarray(times, float), np.asarray(values, float)
    half = len(at) // 2
    if half < FEWEST:
        raise ValueError(f"{len(at)} points are too few: run longer")
    rate = min(slope(at[:half], of[:half]), slope(at[half:], of[half:]))
    median = float(np.median(of))
    return Flatness(median, rate * (at[-1] - at[0]), max(allowed.amount, allowed.share * abs(median)))
