"""Distributions of token counts, each a name with options.

A distribution is its quantile function. One uniform draw makes one length, so that the same seed gives the same rank to
the same request under every distribution: common random numbers for lengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orcinus.errors import ConfigError
from orcinus.workload.bounds import MOST_TOKENS, not_negative, positive, token_range, within

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NORMAL = NormalDist()
ZIPF_SPAN = 10**6  # lengths in the table of a Zipf distribution, at most


class Marginal(Protocol):
    """One distribution of lengths."""

    def at(self, shares: Floats) -> Ints:
        """Quantile function: lengths (>= 1) at these probabilities, same shape."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same length."""

    tokens: int

    def __post_init__(self) -> None:
        within("tokens", self.tokens, 1, MOST_TOKENS)

    def at(self, shares: Floats) -> Ints:
        return np.full(shares.shape, self.tokens, np.int64)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Uniformly distributed lengths from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        token_range(self.low, self.high)

    def at(self, shares: Floats) -> Ints:
        return _whole(self.low + np.floor(shares * (self.high - self.low + 1)), self.low, self.high)


@dataclass(frozen=True, slots=True)
class Zipf:
    """Lengths from `low` to `high`, the k-th with weight k^-theta (SARATHI, 2.3)."""

    theta: float
    low: int
    high: int

    def __post_init__(self) -> None:
        not_negative("theta", self.theta)
        token_range(self.low, self.high)
        within("high - low of a zipf distribution (in tokens)", self.high - self.low, 0, ZIPF_SPAN)

    def at(self, shares: Floats) -> Ints:
        place = np.searchsorted(_zipf_shares(self.theta, self.high - self.low + 1), shares, side="right")
        return _whole(self.low + place, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Geometric:
    """Memoryless lengths with this mean."""

    mean: float

    def __post_init__(self) -> None:
        within("mean (in tokens)", self.mean, 1, MOST_TOKENS)

    def at(self, shares: Floats) -> Ints:
        if self.mean == 1:
            return np.ones(shares.shape, np.int64)
        return _whole(np.ceil(np.log1p(-_open(shares)) / math.log1p(-1 / self.mean)), 1, MOST_TOKENS)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lognormal, by median and 90th percentile or by mean and deviation.

    These parameters are those of the distribution before truncation. Only lengths from `low` to `high` are drawn
    (truncation, not clipping). All in tokens.
    """

    median: float | None = None
    p90: float | None = None
    mean: float | None = None
    std: float | None = None
    low: int = 1
    high: int = MOST_TOKENS

    def __post_init__(self) -> None:
        token_range(self.low, self.high)
        given = [name for name in ("median", "p90", "mean", "std") if getattr(self, name) is not None]
        if given not in (["median", "p90"], ["mean", "std"]):
            raise ConfigError(f"a lognormal distribution needs median and p90, or mean and std, not {given or 'nothing'}")
        for name in given:
            positive(f"{name} (in tokens)", getattr(self, name))
        if self.median is not None and self.p90 is not None and self.p90 <= self.median:
            raise ConfigError(f"p90 must be above the median, not {self.p90} against {self.median}")
        below, upto = self._limits()
        if upto - below < 1e-6:
            raise ConfigError(f"hardly any length of this lognormal lies within {self.low} and {self.high}: widen low and high")

    def at(self, shares: Floats) -> Ints:
        normal, (below, upto) = self._logarithm(), self._limits()
        inner = _open(below + shares * (upto - below))
        drawn = np.fromiter(map(normal.inv_cdf, inner.ravel().tolist()), float, inner.size).reshape(shares.shape)
        return _whole(np.exp(np.minimum(drawn, math.log(MOST_TOKENS))), self.low, self.high)

    def _logarithm(self) -> NormalDist:
        if self.median is not None and self.p90 is not None:
            return NormalDist(math.log(self.median), math.log(self.p90 / self.median) / NORMAL.inv_cdf(0.9))
        assert self.mean is not None
        assert self.std is not None
        variance = math.log1p((self.std / self.mean) ** 2)
        return NormalDist(math.log(self.mean) - variance / 2, math.sqrt(variance))

    def _limits(self) -> tuple[float, float]:
        """Probabilities of the two ends, rounding to `low` or `high` included."""
        normal = self._logarithm()
        return normal.cdf(math.log(self.low - 0.5)), normal.cdf(math.log(self.high + 0.5))


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Known quantiles, interpolated linearly."""

    shares: tuple[float, ...]
    tokens: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.tokens) or self.shares[:1] != (0.0,) or self.shares[-1:] != (1.0,):
            raise ConfigError("quantiles need as many shares, from 0 to 1, as tokens")
        if any(np.diff(self.shares) <= 0) or any(np.diff(self.tokens) < 0):
            raise ConfigError("shares of quantiles must grow, and tokens may not shrink")
        token_range(int(self.tokens[0]), int(self.tokens[-1]))

    def at(self, shares: Floats) -> Ints:
        return _whole(np.interp(shares, self.shares, self.tokens), self.tokens[0], self.tokens[-1])


MARGINALS: Mapping[str, Callable[..., Marginal]] = {
    "fixed": Fixed,
    "uniform": Uniform,
    "zipf": Zipf,
    "geometric": Geometric,
    "lognormal": Lognormal,
}


def _whole(tokens: Floats | Ints, low: float, high: float) -> Ints:
    return np.clip(np.rint(tokens), low, high).astype(np.int64)


def _open(shares: Floats) -> Floats:
    """Probabilities moved away from 0 and 1, where quantiles are infinite."""
    return np.clip(shares, 1e-15, 1 - 1e-15)


@cache
def _zipf_shares(theta: float, span: int) -> Floats:
    sums: Floats = np.cumsum(np.arange(1, span + 1, dtype=float) ** -theta)
    sums /= sums[-1]
    return sums
