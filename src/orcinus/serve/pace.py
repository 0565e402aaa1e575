"""When an engine may start its next iteration: at once, paused, step by step, or in slow motion."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """Pause, steps and slow motion of one engine loop. Times are seconds on the engine's clock."""

    paused: bool = False
    steps: int = 0  # iterations that may start although it is paused
    min_seconds: float = 0.0  # least time from one iteration's start to the next one's; 0 = full speed
    _last: float = -math.inf  # start of the last iteration

    def set(self, paused: bool, min_seconds: float) -> None:
        """Pause or go on, and how fast. Steps that are left are forgotten."""
        self.paused, self.min_seconds, self.steps = paused, min_seconds, 0

    def wait(self, now: float) -> float:
        """Seconds until an iteration may start; infinite while paused."""
        if self.paused and not self.steps:
            return math.inf
        return max(0.0, self._last + self.min_seconds - now) if self.min_seconds else 0.0

    def start(self, now: float) -> None:
        """An iteration starts."""
        self._last = now
        self.steps = max(0, self.steps - 1)
