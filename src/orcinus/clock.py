"""The clock of engines that serve real clients."""

from __future__ import annotations

import time


class MonotonicClock:
    """Seconds of the machine's monotonic clock, shared by all its processes."""

    def now(self) -> float:
        return time.monotonic()
