"""Statistics of a workload, to compare with a paper's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orcinus.errors import ConfigError
from orcinus.workload.processes import Closed
from orcinus.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Spread:
    """Statistics of lengths in tokens.

    Percentiles are interpolated linearly; `std` is the population's.
    """

    mean: float
    median: float
    p90: float
    p99: float
    std: float
    max: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of all requests.

    `rate` (per second) and `gap_cv` are None for requests that arrive all at once, and in a closed loop.
    """

    requests: int
    seconds: float  # from the first arrival to the last
    rate: float | None
    gap_cv: float | None  # standard deviation of the gaps between arrivals over their mean; 1 for Poisson
    prompt: Spread
    output: Spread


def statistics(workload: Workload) -> Statistics:
    """A workload's statistics, in one pass. Raises `ConfigError` if endless or empty."""
    if workload.endless:
        raise ConfigError("a workload without end has no statistics: say how many requests")
    arrivals = workload.untimed() if isinstance(workload.arrivals, Closed) else iter(workload)
    row = np.dtype([("at", float), ("prompt", np.int64), ("output", np.int64)])
    found = np.fromiter(((a.at, a.prompt_tokens, a.output_tokens) for a in arrivals), row)
    if not len(found):
        raise ConfigError(f"no request has at most max_total={workload.max_total} tokens")
    gaps = np.array([]) if isinstance(workload.arrivals, Closed) else np.diff(found["at"])
    seconds = float(gaps.sum())
    return Statistics(
        requests=len(found),
        seconds=seconds,
        rate=len(gaps) / seconds if seconds else None,
        gap_cv=float(gaps.std() / gaps.mean()) if seconds else None,
        prompt=spread(found["prompt"]),
        output=spread(found["output"]),
    )


def spread(tokens: NDArray[np.int64]) -> Spread:
    """The statistics of lengths in tokens, shape [n], n > 0."""
    median, p90, p99 = (float(value) for value in np.percentile(tokens, [50, 90, 99]))
    return Spread(float(tokens.mean()), median, p90, p99, float(tokens.std()), int(tokens.max()))
