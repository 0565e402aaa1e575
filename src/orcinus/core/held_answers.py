"""Answers held back until their batch has ended: the request-level baselines (Orca, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orcinus.core.batch import Event, Finished
from orcinus.core.request import Finish


class HeldAnswers:
    """A filter between scheduler and observers: holds events back until told to let them go."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def passed(self, events: Sequence[Event], now: float, *, hold: bool) -> list[Event]:
        """The events to announce now: none while `hold`, later all at once, as of `now`."""
        if hold:
            self._events += events
            return []
        released, self._events = [_at(event, now) for event in self._events], []
        return [*released, *events]

    def cancel(self, request_id: str, reason: Finish, now: float) -> list[Event]:
        """Drop what is held of a request. Returns its end, if that was among it."""
        held = [event for event in self._events if event.request_id == request_id]
        self._events = [event for event in self._events if event.request_id != request_id]
        return [Finished(request_id, reason, now)] if any(isinstance(event, Finished) for event in held) else []


def _at(event: Event, now: float) -> Event:
    """The event as it is heard if it was held back until now."""
    return replace(event, at=now) if isinstance(event, Finished) else event._replace(at=now)
