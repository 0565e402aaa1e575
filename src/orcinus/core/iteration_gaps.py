"""Gaps between iterations: what an engine does besides its batches."""

from __future__ import annotations

MEMORY = 0.98  # weight relative to the next iteration: about the last fifty count
MOST = 3  # mean iterations that one gap counts for, at most: that of a stopped process says nothing about the next


class IterationGaps:
    """The time of a busy engine relative to that of its iterations.

    In the gaps it answers clients and forecasts. Idle times are no gaps, and while another batch is in flight there are none.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._since: float | None = None  # when the last launch or end was; None: the engine was idle since
        self._within = self._between = 0.0  # seconds, older ones fading

    @property
    def factor(self) -> float:
        """Seconds of work for a second of iterations; at least 1."""
        return 1 + self._between / self._within if self._within else 1.0

    def idle(self) -> None:
        """The engine had nothing to do until now."""
        self._since = None

    def launched(self, now: float) -> None:
        """A batch was launched."""
        if not self._in_flight and self._since is not None:
            self._between = MEMORY * self._between + min(now - self._since, MOST * (1 - MEMORY) * self._within)
        self._in_flight, self._since = self._in_flight + 1, now

    def ended(self, now: float) -> None:
        """The oldest batch in flight ended."""
        self._in_flight = max(0, self._in_flight - 1)
        if self._since is not None:
            self._within = MEMORY * self._within + now - self._since
        self._since = now
