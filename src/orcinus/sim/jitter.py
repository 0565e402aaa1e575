"""Jitter: iterations take more or less than their predicted time, as measured ones did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from statistics import NormalDist

from orcinus.cost.fitted import SPELL

DRAWN = 4096  # factors of a spread that was not measured


def lognormal_factors(spread: float) -> tuple[float, ...]:
    """Independent factors with a mean of 1 and this standard deviation; none for 0."""
    if not spread:
        return ()
    sigma, normal = math.sqrt(math.log1p(spread * spread)), NormalDist()
    factors = [math.exp(sigma * normal.inv_cdf((place + 0.5) / DRAWN) - sigma * sigma / 2) for place in range(DRAWN)]
    Random(0).shuffle(factors)
    return tuple(factors)


class Jitter:
    """Factors of iteration times, drawn from measured ones in blocks.

    Slow iterations come in spells (another program, cold caches), and spells make queues. So blocks of neighbouring measured
    factors are drawn, each from a random place: the circular block bootstrap (Politis and Romano, 1992). Of a long measurement
    only some spells are kept, and a block may join two. A factor depends on nothing but the seed, the stage and the iteration's
    number, so it is the same whether iterations are decided one by one or several at once.
    """

    def __init__(self, factors: Sequence[float], seed: str) -> None:
        self._factors, self._seed = factors, seed
        self._block = (-1, -1)  # the stage and number of the block that was drawn last
        self._start = 0  # its place in the factors

    def factor(self, iteration: int, stage: int = 0) -> float:
        """Measured over predicted seconds of an iteration, by its number from 0."""
        number, place = divmod(iteration, SPELL)
        if (stage, number) != self._block:
            self._block = (stage, number)
            self._start = Random(f"{self._seed}, stage {stage}, block {number}").randrange(len(self._factors))
        return self._factors[(self._start + place) % len(self._factors)]
