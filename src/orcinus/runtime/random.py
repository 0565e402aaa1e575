"""Stateless random numbers: one per (seed, position), equal on all machines.

A generator with state would make a text depend on how often it was called, and so on neighbours, chunking and preemptions. A
counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) is a hash instead:
Philox4x32-10, which GPU libraries use as well, keyed by the seed and counting positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(key: NDArray[np.uint64], counter: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Philox4x32-10: four 32-bit words (as uint64) per row, `[n, 4]`.

    Keys and counters are `[n]`, of 64 bits.
    """
    zero = np.zeros_like(counter)
    x = [counter & LOW, counter >> HALF, zero, zero]
    k = [key & LOW, key >> HALF]
    for _ in range(10):
        product = MULTIPLIERS[0] * x[0], MULTIPLIERS[1] * x[2]
        x = [(product[1] >> HALF) ^ x[1] ^ k[0], product[1] & LOW, (product[0] >> HALF) ^ x[3] ^ k[1], product[0] & LOW]
        k = [(word + step) & LOW for word, step in zip(k, WEYL, strict=True)]
    return np.stack(x, axis=-1)


def uniform(seeds: Sequence[int], positions: Sequence[int]) -> NDArray[np.float64]:
    """One uniform number of [0, 1) per pair, with 53 random bits.

    Seeds are 64-bit, signed or not.
    """
    key = np.array([seed % 2**64 for seed in seeds], np.uint64)
    words = philox(key, np.array(positions, np.uint64))
    bits = (words[:, 0] << np.uint64(21)) | (words[:, 1] >> np.uint64(11))
    fractions: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return fractions
