"""Iteration-level scheduling, first come first served (Orca, section 4.2 and Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from orcinus.core.view import Selection, View, grants


@dataclass(frozen=True, slots=True)
class Orca:
    """Every iteration runs the oldest free requests, in any phase; prompts whole.

    "Oldest" means first in the queue's order, which is `fcfs` in the paper. "Free" means not in flight. The scheduler stops
    admitting at the first request whose reservation fails, so no request overtakes another in the queue: the earlier of two
    has always run at least as many iterations as the later one.
    """

    holds_answers: ClassVar[bool] = False
    steady: ClassVar[bool] = True

    def select(self, view: View) -> Selection:
        oldest_first = chain(view.running, view.waiting)
        return Selection(grants(oldest_first))
