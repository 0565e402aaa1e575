"""Chunked prefill with decode-maximal batching (SARATHI, sections 4.2 and 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from orcinus.core.policies.phases import at_least, by_phase
from orcinus.core.unserved import Reason
from orcinus.core.view import Selection, View, grants


@dataclass(frozen=True, slots=True)
class Sarathi:
    """Batches of exactly one prompt chunk, with decodes in all other places.

    The chunk has `chunk_size` tokens minus one for every decode, so that the whole batch has a size that suits matrix
    multiplications: a multiple of the tile, 128 on a GPU (section 4.4; for CPUs see docs/policies.md).
    """

    holds_answers: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    chunk_size: int = 256

    def __post_init__(self) -> None:
        at_least("chunk_size of the policy 'sarathi'", self.chunk_size, 1)

    def select(self, view: View) -> Selection:
        decodes, prompts = by_phase(view.running)
        one_prompt = grants((*prompts, *view.waiting)[:1], divisible=True)
        budget = max(self.chunk_size, len(decodes))
        return Selection(chain(grants(decodes), one_prompt), budget, otherwise=Reason.ONE_PROMPT)
