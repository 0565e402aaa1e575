"""A cost model fitted to recorded iterations by least squares.

The features are those of `StepTime`, split further: linear layers cost by the token, attention of prompts by the
query-key pair, attention of decodes by the attended token, and the rest by the request or by the iteration. Straight
lines suffice: curves in the number of tokens did not reduce the bundled model's errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orcinus.core.batch import pairs
from orcinus.cost.work import IterationWork
from orcinus.errors import ConfigError

Floats = NDArray[np.float64]
FEATURES: Mapping[str, str] = {
    "iteration": "everything that is done once",
    "decoding": "having decodes at all: their attention is one kernel",
    "prompting": "having prompts at all: their attention is one kernel, and the last layer runs by itself",
    "beginning": "having prompts that begin: their requests are new",
    "token": "linear layers",
    "request": "planning, packing and returning a request",
    "sample": "choosing a token",
    "context": "a token that a decode attends to",
    "prompt": "a chunk of a prompt",
    "pair": "two tokens of a prompt, one attending to the other",
    "copied": "a token that a chunk attends to, if the chunk does not begin its prompt",
    "paused": "the first iteration after the engine had nothing to do: threads sleep, and caches hold other data",
}
ESSENTIAL = ("token", "request", "context", "pair")  # a record must vary each of these independently of the others
FEWEST = 100  # iterations
INDEPENDENT = 0.02  # least share of an essential feature that others do not explain
HELD_OUT = 5  # one iteration in five
ROUNDS, EXACT = 20, 0.005  # of reweighting; relative errors below this count alike
ROUNDING = 1e-10  # of a gradient, relative to the largest there was
LATEST = 2.0  # most that an iteration counts in the mean, in multiples of its prediction
KEPT = 4096  # factors of iterations, spread over all of a measurement
SPELL = 32  # consecutive iterations whose factors stay together: slow ones come in spells


class IterationSample(NamedTuple):
    """A measured iteration."""

    work: IterationWork
    seconds: float


@dataclass(frozen=True, slots=True)
class FitError:
    """Absolute relative errors on iterations held out from the fit."""

    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class FittedCost:
    """A cost model: seconds = sum of `FEATURES` times fitted costs.

    Costs are at least 0. Made by `fit`. The engine runs on one device, so there is one stage. Raises `ConfigError` for
    seconds that are no finite numbers of at least 0.
    """

    seconds: Mapping[str, float]  # of every feature
    iterations: int  # number fitted on
    error: FitError
    factors: tuple[float, ...] = ()  # measured over predicted seconds, in spells of consecutive iterations; 1 on average

    def __post_init__(self) -> None:
        if not all(0 < factor < 1e6 for factor in self.factors):
            raise ConfigError("factors of iterations are numbers above 0")
        known = set(self.seconds) == set(FEATURES) and all(0 <= value < 60 for value in self.seconds.values())
        if not known or not sum(self.seconds.values()):
            raise ConfigError(f"a fitted cost needs seconds of at least 0 for each of {', '.join(FEATURES)}, and one above 0")
        object.__setattr__(self, "seconds", {name: float(self.seconds[name]) for name in FEATURES})

    @property
    def num_stages(self) -> int:
        return 1

    def stages(self, work: IterationWork) -> Sequence[float]:
        return (sum(map(float.__mul__, self.seconds.values(), features(work))),)


def features(work: IterationWork) -> list[float]:
    """The count of each of `FEATURES` in an iteration."""
    beginning, both, copied = False, 0, 0
    for start, tokens in work.prompts:
        both += pairs(start, tokens)
        copied += start + tokens if start else 0
        beginning = beginning or not start
    kinds = work.decodes > 0, bool(work.prompts), beginning
    counts = work.tokens, work.requests, work.samples, work.context, len(work.prompts), both, copied
    return [float(count) for count in (1, *kinds, *counts, work.paused)]


def fit(iterations: Sequence[IterationSample]) -> FittedCost:
    """The costs fitted to these iterations, with their error on held-out ones.

    Minimises the absolute relative error, by least squares that are weighted anew until the weights settle: on a shared
    machine some iterations take several times as long as usual, and a median is robust against that. Queues and whole answers
    depend on the mean, though, so all costs are then scaled by one factor to the mean of the iterations, in which none counts
    for more than `LATEST` times its prediction. Features that never occur cost nothing. Raises `ConfigError` if the iterations
    are too few or too much alike.
    """
    if len(iterations) < FEWEST:
        raise ConfigError(
            f"costs are fitted on at least {FEWEST} iterations, and here are {len(iterations)}: record a longer run"
        )
    matrix = np.array([features(each.work) for each in iterations])
    seconds = np.array([each.seconds for each in iterations])
    if not (np.isfinite(seconds).all() and (seconds > 0).all()):
        raise ConfigError("every iteration of a record must take more than 0 seconds: its clock is broken, or simulated")
    _check(matrix)
    held = np.arange(len(seconds)) % HELD_OUT == HELD_OUT - 1
    errors = np.abs(matrix[held] @ _solve(matrix[~held], seconds[~held]) / seconds[held] - 1)
    error = FitError(float(np.median(errors)), float(np.percentile(errors, 90)))
    costs = _solve(matrix, seconds)
    factors = _factors(seconds, matrix @ costs)
    return FittedCost(dict(zip(FEATURES, costs.tolist(), strict=True)), len(iterations), error, factors)


def _factors(seconds: Floats, predicted: Floats) -> tuple[float, ...]:
    """Measured over predicted seconds, in order: of all iterations, or of spells that are spread evenly over them.

    A machine is slow for a moment or for seconds, so the last iterations would not do. Their mean is 1, with each counted as in
    the mean of the costs.
    """
    ratios, spells = seconds / predicted, len(seconds) // SPELL
    if len(ratios) > KEPT:
        chosen = np.linspace(0, spells - 1, KEPT // SPELL).round().astype(int)
        ratios = ratios[: spells * SPELL].reshape(spells, SPELL)[chosen].ravel()
    return tuple((ratios / np.minimum(ratios, LATEST).mean()).round(3).clip(1e-3).tolist())


def _solve(matrix: Floats, seconds: Floats) -> Floats:
    """Seconds per unit of every feature."""
    scale = np.maximum(matrix.max(axis=0), 1.0)
    relative = matrix / scale / seconds[:, None]
    weights = np.ones(len(seconds))
    for _ in range(ROUNDS):
        found = least_squares(relative * weights[:, None], weights)
        weights = np.maximum(np.abs(relative @ found - 1), EXACT) ** -0.5
    costs: Floats = found / scale
    predicted = matrix @ costs
    scaled: Floats = costs * np.minimum(seconds, LATEST * predicted).sum() / predicted.sum()
    return scaled


def _check(matrix: Floats) -> None:
    """Raise `ConfigError` if an essential feature depends linearly on others."""
    names = list(FEATURES)
    essential = matrix[:, [names.index(name) for name in ("iteration", *ESSENTIAL)]]
    scaled = essential / np.maximum(np.linalg.norm(essential, axis=0), 1.0)
    for column, name in enumerate(ESSENTIAL, 1):
        others = np.delete(scaled, column, axis=1)
        rest = scaled[:, column] - others @ np.linalg.lstsq(others, scaled[:, column], rcond=None)[0]
        if np.linalg.norm(rest) < INDEPENDENT:
            raise ConfigError(
                f"these iterations are too much alike to tell what a {name} costs ({FEATURES[name]}): record prompts of "
                "several lengths and answers in batches of several sizes, or let orcinus calibrate make them"
            )


def least_squares(matrix: Floats, target: Floats) -> Floats:
    """The x >= 0 that minimises |matrix x - target|; shape [n].

    `matrix` is [m, n], `target` is [m]. The method is Lawson and Hanson's (Solving Least Squares Problems, chapter 23): the
    coefficient that promises most is freed, one at a time, and coefficients that would become negative return to 0.
    """
    gram, product = matrix.T @ matrix, matrix.T @ target
    found, free = np.zeros(len(product)), np.zeros(len(product), bool)
    enough = ROUNDING * np.abs(product).max(initial=0.0)
    for _ in range(3 * len(product)):
        gradient = np.where(free, 0.0, product - gram @ found)
        if gradient.max(initial=0.0) <= enough:
            break
        free[gradient.argmax()] = True
        found = _back_inside(gram, product, found, free)
    return found


def _back_inside(gram: Floats, product: Floats, found: Floats, free: NDArray[np.bool_]) -> Floats:
    """The best x of the free coefficients; removes negative ones from `free`."""
    while True:
        best = np.zeros(len(found))
        best[free] = np.linalg.lstsq(gram[np.ix_(free, free)], product[free], rcond=None)[0]
        negative = free & (best <= 0)
        if not negative.any():
            return best
        steps = found[negative] / (found[negative] - best[negative])
        found = found + steps.min() * (best - found)
        free &= ~negative | (found > 1e-15)
        free[np.flatnonzero(negative)[steps.argmin()]] = False
        found = np.where(free, found, 0.0)
