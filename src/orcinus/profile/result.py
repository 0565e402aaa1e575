"""The profile of an engine: whole iterations, their operators, and the floor of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orcinus.machine_load import crowded, usable_cores
from orcinus.profile.batches import ProfiledBatch

VARIES = 1.25  # largest accepted ratio between the quartiles of the same iteration


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One operator in one iteration. Seconds are from iterations with timers."""

    operator: str
    calls: int
    seconds: float
    share: float  # of the iteration
    num_bytes: int  # weights, keys and values; 0 where activations are all that it reads
    operations: int  # of floating point; 0 where they are not counted
    floor_seconds: float

    @property
    def ratio(self) -> float | None:
        """Seconds as a multiple of the floor; None without operations, where no floor says anything."""
        return self.seconds / self.floor_seconds if self.operations else None


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """The profile of one kind of iteration."""

    batch: ProfiledBatch
    tokens: int
    seconds: float  # median of iterations without timers
    quartiles: tuple[float, float]
    timed_seconds: float  # median of iterations with timers
    iterations: int  # measured of each
    bytes_per_s: float  # memory bandwidth, measured on as many bytes as the iteration reads
    operations_per_s: float
    floor_seconds: float  # of all operators, one after the other
    operators: tuple[OperatorTime, ...]

    @property
    def timer_share(self) -> float:
        """What the timers add, as a share of an iteration without them."""
        return self.timed_seconds / self.seconds - 1


@dataclass(frozen=True, slots=True)
class Profile:
    """Profiles of several kinds of iterations, and where they were measured."""

    model: str
    machine: str
    dtype: str
    attention: str
    batches: tuple[BatchProfile, ...]
    doubts: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values, in seconds and bytes."""
        return asdict(self)


def doubts(load: float | None, others: str | None, found: Sequence[BatchProfile]) -> Iterator[str]:
    """Why the figures must not be believed, a line each.

    `load` is the load average before, `others` a sentence on the cores that other processes used meanwhile.
    """
    if load is not None and (busy := crowded([load], usable_cores())):
        yield f"the machine was busy before it began: {busy}"
    if others is not None:
        yield f"{others} while it was measured"
    for each in found:
        low, high = each.quartiles
        if high > VARIES * low:
            times = f"{low * 1e3:.1f} ms or less in a quarter of the iterations, {high * 1e3:.1f} or more in another"
            yield f"a {each.batch.name} took {times}"
