"""When a dead engine is started again, and when no more."""

from __future__ import annotations

DELAYS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # before each start in a row, while nothing comes of them
STEADY_S = 60.0  # an engine that lived so long was no failure, even if it had nothing to do


class Restarts:
    """Counts the deaths of one engine in a row.

    A row ends with an engine that generated a token or lived for a minute.
    """

    def __init__(self) -> None:
        self.total = 0
        self._in_a_row = 0

    def delay(self, *, worked: bool, lived_s: float) -> float | None:
        """Seconds to wait after a death; None: it dies whatever is done, so give up.

        `worked` says whether the engine generated tokens, `lived_s` how long it stood (0 = it could not start).
        """
        if worked or lived_s >= STEADY_S:
            self.forgive()
        if self._in_a_row == len(DELAYS_S):
            return None
        self.total += 1
        self._in_a_row += 1
        return DELAYS_S[self._in_a_row - 1]

    def forgive(self) -> None:
        """Begin a new row, because the cause of the deaths was found."""
        self._in_a_row = 0
