"""The next batch while it is being planned: budget, places, shares and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from orcinus.core.request import Overlap, Request
from orcinus.core.unserved import Reason
from orcinus.core.view import Grant, View


class Share(NamedTuple):
    """What a request runs in the batch being planned."""

    tokens: int
    samples: bool  # whether these are all that is pending, so that the next token can be drawn
    drafts: tuple[int, ...] = ()  # guesses, run behind these tokens


@dataclass(slots=True)
class NextBatch:
    """The batch that `Scheduler.plan` fills, grant by grant."""

    whole_budget: int
    budget: int  # what is left of it
    places: int  # for requests that are not running yet
    overlap: Overlap  # which requests in flight it may carry on
    door_open: bool = True  # whether waiting requests may still be admitted in this iteration
    short_of_memory: bool = False  # the only victim is in flight: plan nothing ahead until its batch returns
    shares: dict[Request, Share] = field(default_factory=dict)
    refused: dict[Request, Reason] = field(default_factory=dict)

    def tokens_for(self, grant: Grant, pending: int) -> int:
        """Tokens the grant gets, of so many pending ones, out of the budget that is left; 0 = it has to wait.

        What may not be divided runs whole or waits, unless it is longer than any iteration: then it is cut all the same.
        """
        wanted = pending if grant.at_most is None else min(grant.at_most, pending)
        if wanted <= self.budget or grant.divisible or wanted > self.whole_budget:
            return max(0, min(wanted, self.budget))
        return 0

    def add(self, request: Request, share: Share) -> None:
        self.shares[request] = share
        self.budget -= share.tokens + len(share.drafts)

    def drop(self, request: Request) -> None:
        """Take a request's share out again, if it has one; its tokens return to the budget."""
        share = self.shares.pop(request, None)
        if share is not None:
            self.budget += share.tokens + len(share.drafts)

    def refuse(self, request: Request, reason: Reason) -> None:
        """Leave the request out, and admit no later one in this iteration (first come, first served)."""
        self.refused[request] = reason
        self.door_open = False

    def left_out(self, view: View, others: Reason) -> tuple[Mapping[str, Reason], Reason]:
        """Why each running or refused request is left out, and why the rest of the queue is."""
        reasons = {request.id: others for request in view.running if request not in self.shares}
        reasons |= {request.id: reason for request, reason in self.refused.items() if request not in self.shares}
        full = len(view.running) >= view.limits.max_batch_size
        return reasons, Reason.BATCH_FULL if full else others if self.door_open else Reason.BEHIND
