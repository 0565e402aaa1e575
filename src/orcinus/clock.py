"""The clock of an engine that serves people."""

from __future__ import annotations

import time


class MonotonicClock:
    """Seconds of the machine's monotonic clock, which all its processes share."""

    def now(self) -> float:
        return time.monotonic()
