"""Bytes of a device: what there is, what is taken, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Bytes: what there is before anything is loaded, and what will be taken."""

    total: int  # of the device or machine
    available: int  # of those that are free now
    margin: int = 0  # of those that stay free: on a GPU, for CUDA graphs, for what torch does not allocate, for fragments
    weights: int
    kv: int
    working: int  # of the largest iteration
    measured: bool = False  # whether that was measured; else it is an estimate

    @property
    def left(self) -> int:
        """Bytes that nothing needs; below 0 if it does not fit."""
        return self.available - self.margin - self.weights - self.kv - self.working

    @property
    def fits(self) -> bool:
        """Whether everything has room: the one place where this is decided."""
        return self.left >= 0

    @property
    def missing_mib(self) -> int:
        """MiB that are short, rounded up; 0 if it fits."""
        return max(0, -(self.left // MIB))


def mib(num_bytes: int) -> int:
    """MiB, rounded up."""
    return -(-num_bytes // MIB)
