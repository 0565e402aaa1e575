"""Simulated experiments: rows of the acceptance table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orcinus.papers.findings import Finding, NumberSource


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
    run: Callable[[], Finding]
