"""Each iteration's slots and their requests (Orca, figures 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from orcinus.core.batch import Batch, Event, Finished
from orcinus.core.ports import Observer
from orcinus.core.unserved import Unserved


class Phase(Enum):
    """A request's activity in an iteration."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Cell:
    """One slot in one iteration."""

    request_id: str
    phase: Phase


class SlotObserver(Observer):
    """A table of slots (rows) by iterations (columns); None = idle slot.

    A request keeps its slot until its ending is heard.
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self.columns: list[tuple[Cell | None, ...]] = []
        self._slots: dict[str, int] = {}

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        column: list[Cell | None] = [None] * self.num_slots
        for chunk in batch.chunks:
            slot = self._slot(chunk.request_id)
            phase = Phase.PREFILL if chunk.prefill else Phase.DECODE
            column[slot] = Cell(chunk.request_id, phase)
        self.columns.append(tuple(column))

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self._slots.pop(event.request_id, None)

    @property
    def use(self) -> float:
        """The share of slots in use, over all iterations so far."""
        cells = [cell for column in self.columns for cell in column]
        return sum(cell is not None for cell in cells) / len(cells) if cells else 0.0

    def _slot(self, request_id: str) -> int:
        if request_id not in self._slots:
            taken = set(self._slots.values())
            self._slots[request_id] = next(slot for slot in range(self.num_slots) if slot not in taken)
        return self._slots[request_id]
