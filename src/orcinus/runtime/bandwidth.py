"""How fast this machine reads memory, measured."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

MOST = 2**27  # bytes; more than caches hold, and read in a fraction of a second
SECONDS = 0.1


def read_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Bytes per second at which all of torch's threads sum a tensor.

    The tensor takes `num_bytes`, at most 128 MiB: what is small enough to stay in the processor's cache is read from there
    when the model runs, so it has to be here.
    """
    numbers = torch.ones(max(1, min(num_bytes, MOST) // 4), device=device)
    return numbers.nbytes / _seconds(numbers.sum)


def product_bandwidth(device: torch.device, dtype: torch.dtype, num_bytes: int, inputs: int, rows: int) -> float:
    """Bytes per second of weights read by a product with `rows` rows.

    This is what a decode does with its weights, and where computing keeps up with memory it is as fast as reading them.
    """
    outputs = max(1, min(num_bytes, MOST) // (inputs * dtype.itemsize))
    weights = torch.ones(outputs, inputs, dtype=dtype, device=device)
    x = torch.ones(rows, inputs, dtype=dtype, device=device)
    return weights.nbytes / _seconds(lambda: F.linear(x, weights).sum())


def _seconds(work: Callable[[], torch.Tensor]) -> float:
    """The shortest of some runs, without the first."""
    work()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while best == float("inf") or time.perf_counter() < end:
        began = time.perf_counter()
        work().item()  # the number is asked for, which waits for a GPU
        best = min(best, time.perf_counter() - began)
    return best
