"""The seconds of a run that a picture of iterations shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from orcinus.bench.formatting import digits
from orcinus.bench.record import Iteration

BARS = 160  # bars that can be distinguished in a picture's width

Runs = Sequence[tuple[str, Sequence[Iteration]]]


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds from the start of the runs.

    `why` is "" if the window is the whole run.
    """

    start: float
    end: float
    why: str = ""


def window(runs: Runs) -> Window:
    """A window around the longest iteration.

    It holds 160 usual iterations, or three of the longest. A side's first iteration does not count as the longest, because
    it may include a warm-up.
    """
    end = max((one.returned for _, all_ in runs for one in all_), default=1.0)
    later = [(name, one) for name, all_ in runs for one in all_[1:]]
    if not later:
        return Window(0.0, end)
    name, longest = max(later, key=lambda found: _seconds(found[1]))
    took = _seconds(longest)
    width = max(BARS * median(_seconds(one) for _, one in later), 3 * took)
    if width >= end:
        return Window(0.0, end)
    start = min(max(0.0, (longest.launched + longest.returned - width) / 2), end - width)
    return Window(
        start, start + width, f"around the longest iteration: {digits(took)} s from {longest.launched:.2f} s on, of {name}"
    )


def _seconds(one: Iteration) -> float:
    return one.returned - one.launched
