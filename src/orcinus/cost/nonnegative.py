"""Least squares without negative coefficients.

Lawson and Hanson, Solving Least Squares Problems, chapter 23.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NOTHING = 1e-10  # relative to the largest gradient there was: less is rounding


def least_squares(matrix: Floats, target: Floats) -> Floats:
    """The x >= 0, shape [n], with the smallest |matrix x - target|.

    `matrix` is [m, n], `target` is [m].

    One coefficient after the other is freed, the one that promises most, and those that would become negative are put
    back to 0.
    """
    gram, product = matrix.T @ matrix, matrix.T @ target
    found, free = np.zeros(len(product)), np.zeros(len(product), bool)
    enough = NOTHING * np.abs(product).max(initial=0.0)
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
