"""Chunked prefills without hybrid batches: an ablation of Sarathi-Serve (section 5.4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from orcinus.core.policies.phases import at_least, by_phase
from orcinus.core.unserved import Reason
from orcinus.core.view import Selection, View, grants


@dataclass(frozen=True, slots=True)
class ChunkedOnly:
    """Iterations of prompts alone, in chunks, take turns with iterations of decodes alone.

    No decode waits for more than `token_budget` tokens of prompts, but weights are read for prompts and decodes apart. As in
    the authors' published scheduler, the turn changes with every iteration, and is lost if it has nothing to run. (The other
    ablation, hybrid batches without chunks, is the policy `orca` with paged K/V memory.)
    """

    holds_answers: ClassVar[bool] = False
    pauses_decodes: ClassVar[bool] = True
    token_budget: int = 512

    def __post_init__(self) -> None:
        at_least("token_budget of the policy 'chunked-only'", self.token_budget, 1)

    def select(self, view: View) -> Selection:
        decodes, prompts = by_phase(view.running)
        room = len(view.running) < view.limits.max_batch_size
        some = bool(prompts) or (room and any(map(view.fits, view.waiting[:1])))
        if some and not (decodes and view.number % 2):
            chunks = grants(chain(prompts, view.waiting), divisible=True)
            return Selection(chunks, self.token_budget, otherwise=Reason.PROMPTS_FIRST)
        stopped = Reason.NO_BLOCKS if room else Reason.BATCH_FULL
        return Selection(grants(decodes), otherwise=Reason.NOT_CHOSEN if some else stopped)
