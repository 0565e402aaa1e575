"""The clock of simulations."""

from __future__ import annotations


class VirtualClock:
    """Seconds since the start of a simulation; jumps forward only."""

    def __init__(self, at: float = 0.0) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    def jump(self, to: float) -> None:
        """Set the time to `to` seconds."""
        assert to >= self._at, "time does not run backwards"
        self._at = to
