"""What a section is given: device, sizes, time left, and its results."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from on_gpu.results import Results
from on_gpu.sizes import Sizes


class Bench:
    """One section's view of the run; every figure is written at once."""

    def __init__(self, device: torch.device, sizes: Sizes, results: Results, section: str, until: float, tp: int = 1) -> None:
        self.device, self.sizes, self.results, self.tp = device, sizes, results, tp
        self.found = results.sections[section]
        self._until = until

    @property
    def dtype(self) -> torch.dtype:
        """Of models and measurements."""
        found: torch.dtype = getattr(torch, self.sizes.dtype)
        return found

    def row(self, table: str, **cells: Any) -> None:
        """One more row of a table. Cells whose names end in `share` are fractions."""
        self.found["tables"].setdefault(table, []).append(cells)
        self.results.write()

    def fact(self, name: str, value: Any) -> None:
        """A figure that stands alone."""
        self.found["facts"][name] = value
        self.results.write()

    def left(self) -> float:
        """Seconds until the section is cut."""
        return self._until - time.time()

    def ceiling(self, name: str, measure: Callable[[Bench], float]) -> float:
        """A figure of the section `ceilings`, from the file or measured now."""
        known = self.results.fact("ceilings", name)
        if known is None:
            known = self.found["facts"].get(name) or measure(self)
            self.fact(name, known)
        return float(known)


def first_line(error: BaseException) -> str:
    """Its kind and the beginning of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
