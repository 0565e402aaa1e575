"""A clock that stands still until somebody moves it."""

from __future__ import annotations


class VirtualClock:
    """Seconds since the start of a simulation. It only moves forward, and in jumps."""

    def __init__(self, at: float = 0.0) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    def jump(self, to: float) -> None:
        """It is `to` seconds now."""
        assert to >= self._at, "time does not run backwards"
        self._at = to
