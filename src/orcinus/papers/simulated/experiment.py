"""Simulated experiments: rows of the acceptance table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from orcinus.papers.findings import Finding, NumberSource, over_seeds


class Scope(StrEnum):
    """What an experiment's numbers are of."""

    ITERATION = "iteration"  # single iterations, or batches that run alone
    RUN = "run"  # requests from end to end, below saturation or without arrivals
    SATURATION = "saturation"  # the highest rates, and latencies close to them
    OTHER = "other"  # no times: memory, lengths, orderings


@dataclass(frozen=True, slots=True)
class Experiment:
    """A paper's figure or table; `run` repeats it in the simulator."""

    number: int  # in the acceptance table; 0 for experiments besides, which decide nothing
    paper: str
    figure: str  # or table
    setup: str  # what is simulated
    tolerance: str
    calibrated: str  # which constants were fitted, and on what; "nothing" if none
    source: NumberSource
    run: Callable[..., Finding]  # takes the seed, if it depends on chance
    scope: Scope
    device: str  # of the cost model; "" if no time is simulated
    chance: bool = False  # whether its workload is drawn at random

    def over(self, seeds: int) -> Finding:
        """Its finding over this many seeds, from 0 on; over one if nothing depends on chance."""
        return over_seeds([self.run(seed) for seed in range(seeds)]) if self.chance else self.run()
