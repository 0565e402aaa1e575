"""Numba's threads: as many as torch's, in the same OpenMP pool."""

from __future__ import annotations

import numba
import torch


def share_threads() -> None:
    """Give Numba's kernels as many threads as torch's operators, once this process has chosen torch's number."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)  # starting Numba's threads changed the size of the pool


def threading_layer() -> str:
    """What runs Numba's parallel loops: omp (OpenMP's threads, torch's own), or workqueue or tbb (threads beside them)."""
    share_threads()
    return str(numba.threading_layer())
