"""Stall-free batching (Sarathi-Serve, section 4.2 and Algorithm 3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from orcinus.core.policies.phases import at_least, by_phase
from orcinus.core.view import Selection, View, grants


@dataclass(frozen=True, slots=True)
class StallFree:
    """Runs every decode in every iteration; prompts share the remaining budget.

    Running prompts come before new ones. `token_budget` bounds the time of an iteration and so the time between tokens; no
    prompt, however long, stalls a decode. Where no request decodes nothing can stall: the first prompt may then take up to
    `prompt_budget` tokens at once (0: the paper's algorithm, which knows one budget). Several short prompts still share
    `token_budget`, since the first of them would only wait for the others.
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
        chunks = grants(chain(prompts, view.waiting), divisible=True)
        first = next(chain(prompts, view.waiting), None)
        alone = min(first.pending, self.prompt_budget) if first and not (decodes or view.busy) else 0
        return Selection(chain(grants(decodes), chunks), max(self.token_budget, alone, len(decodes)))
