"""Answers held back until their batch has ended: request-level baselines (Orca, 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orcinus.core.batch import Event, Finished
from orcinus.core.request import Finish


class HeldAnswers:
    """A filter between scheduler and observers that can hold events back."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def passed(self, events: Sequence[Event], now: float, *, hold: bool) -> list[Event]:
        """The events to announce now.

        None while `hold`; afterwards all that were held, stamped with `now`.
        """
        if hold:
            self._events += events
            return []
        released, self._events = [_at(event, now) for event in self._events], []
        return [*released, *events]

    def cancel(self, request_id: str, reason: Finish, now: float) -> list[Event]:
        """Drop a request's held events. Returns its `Finished`, if it was held."""
        held = [event for event in self._events if event.request_id == request_id]
        self._events = [event for event in self._events if event.request_id != request_id]
        return [Finished(request_id, reason, now)] if any(isinstance(event, Finished) for event in held) else []


def _at(event: Event, now: float) -> Event:
    """A held event, stamped with the time at which it is announced."""
    return replace(event, at=now) if isinstance(event, Finished) else event._replace(at=now)
