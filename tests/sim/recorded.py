"""Iterations that take as long as they took once: a record of a real run as a cost model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orcinus.cost.work import IterationWork
from orcinus.errors import ReplayDiffers


class RecordedCost:
    """The iterations of a record, one after the other. Raises `ReplayDiffers` when they are used up.

    Made for engines with one batch in flight. An iteration lasts until the next launch, if that followed its return at
    once: what the engine did in between is part of it.
    """

    num_stages = 1

    def __init__(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self._seconds = iter(_durations(lines))

    def stages(self, work: IterationWork) -> Sequence[float]:
        seconds = next(self._seconds, None)
        if seconds is None:
            raise ReplayDiffers("the record holds no more iterations, but the engine goes on")
        return (seconds,)


def _durations(lines: Iterable[Mapping[str, Any]]) -> list[float]:
    seconds: list[float] = []
    launched: float | None = None
    idle = True  # whether nothing was left to do after the last return
    live = 0
    for line in lines:
        match line["kind"]:
            case "submit":
                live += 1
            case "finish":
                live -= 1
                idle = live == 0
            case "launch":
                if seconds and not idle and launched is not None:
                    seconds[-1] = line["at"] - launched
                launched, idle = line["at"], False
            case "return":
                assert launched is not None
                seconds.append(line["at"] - launched)
    return seconds
