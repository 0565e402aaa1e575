"""The Orca paper's baseline: FasterTransformer below a request-level scheduler (Orca, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

from orcinus.core.unserved import Reason
from orcinus.core.view import Selection, View, grants


@dataclass(frozen=True, slots=True)
class FasterTransformer:
    """Request-level batches whose prompts are padded to the shortest one.

    A batch runs to its end. Its first iteration runs as many tokens of every prompt as the shortest one has. The rest of the
    longer prompts runs token by token, beside the answers of the shorter ones. The slot of a finished request stays empty,
    and no answer is returned before the longest one is complete.
    """

    holds_answers: ClassVar[bool] = True
    steady: ClassVar[bool] = True
    pads_batches: ClassVar[bool] = True

    def select(self, view: View) -> Selection:
        if view.running or view.busy:
            return Selection(grants(view.running, at_most=1), otherwise=Reason.STATIC_BATCH)
        batch = list(takewhile(view.fits, view.waiting[: view.limits.max_batch_size]))
        shortest = min((request.pending for request in batch), default=0)
        return Selection(grants(batch, at_most=shortest), otherwise=Reason.STATIC_BATCH)
