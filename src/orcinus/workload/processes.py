"""Arrival processes: when requests come; each a name with options.

Unit draws are scaled by the rate. So the same seed gives the same pattern at every rate, only closer together, and two
systems or two rates are compared on common random numbers (Law & Kelton, Simulation Modeling and Analysis, 11.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, repeat
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from orcinus.errors import ConfigError
from orcinus.workload.bounds import not_negative, positive, within
from orcinus.workload.fitted import fitted

BLOCK = 4096  # draws per block; does not change the numbers
Floats = NDArray[np.float64]


class Process(Protocol):
    """An open-loop arrival process: times that depend on chance alone."""

    def moments(self, rng: Generator) -> Iterator[float]:
        """Arrival times in seconds after the start: endless, lazy, never decreasing."""


@dataclass(frozen=True, slots=True)
class Poisson:
    """Poisson arrivals at `rate` requests per second."""

    rate: float

    def __post_init__(self) -> None:
        positive("rate (requests per second)", self.rate)

    def moments(self, rng: Generator) -> Iterator[float]:
        for sums in _running_sums(rng.standard_exponential):
            yield from (sums / self.rate).tolist()


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gamma-distributed gaps with coefficient of variation `cv`; above 1 is bursty."""

    rate: float
    cv: float

    def __post_init__(self) -> None:
        positive("rate (requests per second)", self.rate)
        within("cv (of the gaps)", self.cv, 0.01, 100)

    def moments(self, rng: Generator) -> Iterator[float]:
        shape = 1 / self.cv**2
        for sums in _running_sums(lambda size: rng.standard_gamma(shape, size) / shape):
            yield from (sums / self.rate).tolist()


@dataclass(frozen=True, slots=True)
class AzureConversation:
    """Gamma gaps fitted to the Azure conversation trace of 2023.

    They have its burstiness from request to request. The trace's load also drifts: the requests per minute vary 13 times as
    much as here (fitted.json has both numbers). To study queues that build up over minutes, play the trace itself.
    """

    rate: float | None = None  # None: the trace's own

    def __post_init__(self) -> None:
        if self.rate is not None:
            positive("rate (requests per second)", self.rate)

    def moments(self, rng: Generator) -> Iterator[float]:
        gaps = fitted("azure-conversation")["gaps"]
        return Gamma(gaps["rate"] if self.rate is None else self.rate, gaps["cv"]).moments(rng)


@dataclass(frozen=True, slots=True)
class Constant:
    """One request every 1/rate seconds, the first one at 0."""

    rate: float

    def __post_init__(self) -> None:
        positive("rate (requests per second)", self.rate)

    def moments(self, rng: Generator) -> Iterator[float]:
        return (number / self.rate for number in count())


@dataclass(frozen=True, slots=True)
class Ramp:
    """A Poisson process whose rate goes from `start` to `end` within `seconds`.

    A unit-rate process is stretched by the inverse of the integrated rate, so the rate changes exactly, not stepwise
    (Çinlar, Introduction to Stochastic Processes, 4.7). `start` may be 0; `end` may not, because arrivals would cease.
    """

    start: float
    end: float
    seconds: float

    def __post_init__(self) -> None:
        not_negative("start (requests per second)", self.start)
        positive("end (requests per second)", self.end)
        positive("seconds (of the ramp)", self.seconds)

    def moments(self, rng: Generator) -> Iterator[float]:
        slope = (self.end - self.start) / self.seconds
        grown = (self.start + self.end) / 2 * self.seconds  # expected requests during the ramp
        for sums in _running_sums(rng.standard_exponential):
            during = np.minimum(sums, grown)
            root = np.sqrt(np.maximum(self.start**2 + 2 * slope * during, np.finfo(float).tiny))
            yield from (2 * during / (self.start + root) + (sums - during) / self.end).tolist()


@dataclass(frozen=True, slots=True)
class AllAtOnce:
    """All requests at the start: the offline case."""

    def moments(self, rng: Generator) -> Iterator[float]:
        return repeat(0.0)


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed loop: `clients` send, wait for the answer, think, and repeat.

    Thinking takes `think` seconds on average, exponentially distributed, as in the classic model of interactive users. A
    request's time depends on the end of the one before, so `Workload.loop` gives it to whatever serves the requests.
    """

    clients: int
    think: float = 0.0

    def __post_init__(self) -> None:
        if self.clients < 1:
            raise ConfigError(f"a closed loop needs at least 1 client, not {self.clients}")
        not_negative("think (seconds)", self.think)

    def pauses(self, rng: Generator) -> Iterator[float]:
        """Seconds between an answer and the next request, endless."""
        while True:
            yield from (rng.standard_exponential(BLOCK) * self.think).tolist()


ARRIVALS: Mapping[str, Callable[..., Process | Closed]] = {
    "poisson": Poisson,
    "gamma": Gamma,
    "constant": Constant,
    "ramp": Ramp,
    "all-at-once": AllAtOnce,
    "closed": Closed,
    "azure-conversation": AzureConversation,
}


def _running_sums(draw: Callable[[int], Floats]) -> Iterator[Floats]:
    """Sums of unit gaps, block after block."""
    last = 0.0
    while math.isfinite(last):
        gaps = draw(BLOCK)
        gaps[0] += last
        sums = np.cumsum(gaps)
        last = float(sums[-1])
        yield sums
