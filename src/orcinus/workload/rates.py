"""Requests at other rates, and a search for the highest one."""

from __future__ import annotations

import math
from collections.abc import Callable

from orcinus.core.component_spec import options_of, with_option
from orcinus.errors import ConfigError
from orcinus.workload.processes import ARRIVALS

FARTHEST = 24  # doublings or halvings of the rate before the search gives up


def at_rate(arrivals: str, rate: float) -> str:
    """An arrival process stretched to another rate. Raises `ConfigError`."""
    name = arrivals.split(":")[0]
    kind = ARRIVALS.get(name)
    if kind is None or "rate" not in options_of(kind):
        raise ConfigError(f"the arrival process {name!r} has no rate to vary: use poisson, gamma or constant")
    return with_option(arrivals, "rate", repr(rate))


class NeverMissed(ConfigError):
    """Every rate keeps the SLO, because the requests end too soon."""

    def __init__(self, rate: float, advice: str = "give more --requests") -> None:
        self.rate = rate
        super().__init__(
            f"the objectives are kept at {rate:g} requests per second still: the workload is too short to tell: {advice}"
        )


class RateGrid:
    """Rates first x 2^(step / per_doubling), which all searches share."""

    def __init__(self, first: float, tolerance: float) -> None:
        if not (0 < tolerance < 1 and 0 < first < math.inf):
            raise ConfigError("a search needs a tolerance between 0 and 1 and a first rate above 0 requests per second")
        self.first = first
        self.per_doubling = 2 ** max(0, math.ceil(math.log2(1 / math.log2(1 + tolerance))))

    def rate(self, step: int) -> float:
        """The step's rate in requests per second."""
        rate: float = self.first * 2 ** (step / self.per_doubling)
        return rate

    def highest(self, keeps: Callable[[int], bool], start: int = 0) -> int | None:
        """The highest step that keeps an SLO; None if none does.

        Growing steps from `start` enclose it, and bisection finds it. Raises `NeverMissed` if every rate keeps it.
        """
        low, high = self._enclose(keeps, start)
        while low is not None and high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if keeps(middle) else (low, middle)
        return low

    def _enclose(self, keeps: Callable[[int], bool], start: int) -> tuple[int | None, int]:
        """A step that keeps the SLO, and a higher one that fails.

        (None, …) if all fail.
        """
        step, stride = start, max(1, self.per_doubling // 8)
        kept = keeps(step)
        while abs(step) < FARTHEST * self.per_doubling:
            following = step + (stride if kept else -stride)
            if keeps(following) != kept:
                return (step, following) if kept else (following, step)
            step, stride = following, min(2 * stride, self.per_doubling)
        if kept:
            raise NeverMissed(self.rate(step))
        return None, step
