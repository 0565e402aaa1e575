"""Prefill-prioritising batching: vLLM before chunked prefill (Sarathi-Serve, Algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from orcinus.core.policies.phases import by_phase
from orcinus.core.unserved import Reason
from orcinus.core.view import Selection, View, grants


@dataclass(frozen=True, slots=True)
class PrefillFirst:
    """Iterations of whole prompts whenever one can be admitted; decodes pause.

    First tokens come soon and the batch grows fast, but all other streams stall meanwhile.
    """

    holds_answers: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    pauses_decodes: ClassVar[bool] = True

    def select(self, view: View) -> Selection:
        decodes, prompts = by_phase(view.running)
        room = len(view.running) < view.limits.max_batch_size
        if prompts or (room and any(map(view.fits, view.waiting[:1]))):
            return Selection(grants(chain(prompts, view.waiting)), otherwise=Reason.PROMPTS_FIRST)
        return Selection(grants(decodes), otherwise=Reason.NO_BLOCKS if room else Reason.BATCH_FULL)
