"""The batch being planned: budget, places, shares and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orcinus.core.ports import Drafter
from orcinus.core.request import Flight, Overlap, Request
from orcinus.core.unserved import Reason
from orcinus.core.view import Grant, View


@dataclass(slots=True)
class NextBatch:
    """The batch that `Scheduler.plan` fills, grant by grant."""

    id: int
    whole_budget: int
    budget: int  # its remaining tokens
    places: int  # free places for waiting requests
    overlap: Overlap  # which requests in flight it may include
    running: int = 0  # requests in memory that may run
    drafter: Drafter | None = None  # guesses tokens after decodes
    door_open: bool = True  # whether waiting requests may still be admitted in this iteration
    short_of_memory: bool = False  # the only victim is in flight: plan nothing ahead until its batch returns
    shares: dict[Request, Flight] = field(default_factory=dict)
    refused: dict[Request, Reason] = field(default_factory=dict)
    decode: Flight = field(init=False)  # the share of every decode without drafts

    def __post_init__(self) -> None:
        self.decode = Flight(self.id, 1, samples=True)

    def tokens_for(self, grant: Grant, pending: int) -> int:
        """Tokens of `pending` that the remaining budget allows; 0 = wait.

        A grant that is not divisible runs whole or waits. It is cut only if it is longer than any iteration may be.
        """
        wanted = pending if grant.at_most is None else min(grant.at_most, pending)
        if wanted <= self.budget or grant.divisible or wanted > self.whole_budget:
            return max(0, min(wanted, self.budget))
        return 0

    def add(self, request: Request, tokens: int, samples: bool, drafts: tuple[int, ...]) -> None:
        plain = tokens == 1 and samples and not drafts
        self.shares[request] = self.decode if plain else Flight(self.id, tokens, samples, drafts)
        self.budget -= tokens + len(drafts)

    def drop(self, request: Request) -> None:
        """Remove a request's share; its tokens return to the budget."""
        share = self.shares.pop(request, None)
        if share is not None:
            self.budget += share.tokens + len(share.drafts)

    def refuse(self, request: Request, reason: Reason) -> None:
        """Leave the request out, and admit no later one in this iteration.

        First come, first served.
        """
        self.refused[request] = reason
        self.door_open = False

    def left_out(self, view: View, others: Reason) -> tuple[Mapping[str, Reason], Reason]:
        """Why each running or refused request waits, and why all others do."""
        reasons = {request.id: others for request in view.running if request not in self.shares}
        reasons |= {request.id: reason for request, reason in self.refused.items() if request not in self.shares}
        full = len(view.running) >= view.limits.max_batch_size
        return reasons, Reason.BATCH_FULL if full else others if self.door_open else Reason.BEHIND
