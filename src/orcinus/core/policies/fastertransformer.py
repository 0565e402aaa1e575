"""The request-level baseline of the Orca paper: FasterTransformer below a simple scheduler (Orca, section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

from orcinus.core.unserved import Reason
from orcinus.core.view import Grant, Selection, View


@dataclass(frozen=True, slots=True)
class FasterTransformer:
    """A batch runs to its end. Its first iteration treats every prompt as if it had the length of the shortest.

    The rest of the longer prompts goes in token by token, together with the answers of the shorter ones. Whoever has
    finished leaves its slot empty, and nobody sees an answer before the longest is done.
    """

    holds_answers: ClassVar[bool] = True
    steady: ClassVar[bool] = True
    pads_batches: ClassVar[bool] = True

    def select(self, view: View) -> Selection:
        if view.running or view.busy:
            return Selection((Grant(request, at_most=1) for request in view.running), otherwise=Reason.STATIC_BATCH)
        batch = list(takewhile(view.fits, view.waiting[: view.limits.max_batch_size]))
        shortest = min((request.pending for request in batch), default=0)
        return Selection((Grant(request, at_most=shortest) for request in batch), otherwise=Reason.STATIC_BATCH)
