"""Stall-free batching (Sarathi-Serve, section 4.2 and Algorithm 3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from orcinus.core.policies.phases import at_least, by_phase
from orcinus.core.view import Grant, Selection, View


@dataclass(frozen=True, slots=True)
class StallFree:
    """Runs every decode in every iteration; prompts share the remaining budget.

    Running prompts come before new ones. `token_budget` bounds the time of an iteration and so the time between tokens; no
    prompt, however long, stalls a decode. Where no request decodes nothing can stall: `prompt_budget` holds there, if it is
    larger (0: the paper's algorithm, which knows one budget).
    """

    holds_answers: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    token_budget: int = 512  # as in the paper, for GPUs; docs/policies.md measures what suits a CPU
    prompt_budget: int = 0

    def __post_init__(self) -> None:
        at_least("token_budget of the policy 'stall-free'", self.token_budget, 1)
        at_least("prompt_budget of the policy 'stall-free'", self.prompt_budget, 0)

    def select(self, view: View) -> Selection:
        decodes, prompts = by_phase(view.running)
        chunks = (Grant(request, divisible=True) for request in chain(prompts, view.waiting))
        budget = self.token_budget if decodes else max(self.token_budget, self.prompt_budget)
        return Selection(chain(map(Grant, decodes), chunks), max(budget, len(decodes)))
