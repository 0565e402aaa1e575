"""A memory budget: bytes available, bytes needed, and whether they fit."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Bytes available before anything is loaded, and bytes needed."""

    total: int  # of the device or machine
    available: int  # of those that are free now
    margin: int = 0  # of those that stay free: on a GPU, for CUDA graphs, for what torch does not allocate, for fragments
    weights: int
    kv: int
    working: int  # of the largest iteration
    measured: bool = False  # whether that was measured; else it is an estimate

    @property
    def left(self) -> int:
        """Bytes left over; below 0 if it does not fit."""
        return self.available - self.margin - self.weights - self.kv - self.working

    @property
    def fits(self) -> bool:
        """Whether everything has room; the only place that decides it."""
        return self.left >= 0

    @property
    def missing_mib(self) -> int:
        """MiB that are missing, rounded up; 0 if it fits."""
        return max(0, -(self.left // MIB))


def mib(num_bytes: int) -> int:
    """MiB, rounded up."""
    return -(-num_bytes // MIB)
