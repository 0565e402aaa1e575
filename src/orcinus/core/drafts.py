"""Draft tokens of decodes (speculative decoding)."""

from __future__ import annotations

from orcinus.core.next_batch import NextBatch
from orcinus.core.ports import BoundedDrafter, Drafter, KVManager
from orcinus.core.view import Grant


def active(drafter: Drafter | None, running: int) -> Drafter | None:
    """The drafter, unless more requests run than it is made for."""
    if drafter is None or running > getattr(drafter, "max_batch", running):
        return None
    return drafter


def most_rows(drafter: BoundedDrafter | None, requests: int) -> int:
    """The most tokens sampled in an iteration: one for each of `requests`, and one after each draft."""
    return requests if drafter is None else requests + drafter.k * min(requests, drafter.max_batch)


def drafts_for(kv: KVManager, grant: Grant, batch: NextBatch, drafter: Drafter) -> tuple[int, ...]:
    """Draft tokens to verify after a decode, with blocks for them.

    No request is preempted for a draft, and every running request that is not served yet keeps a token of the budget.
    """
    request = grant.request
    if not request.decoding or request.params.needs_history:
        return ()
    others = max(0, batch.running - len(batch.shares) - 1)
    room = min(batch.budget - others, request.max_known - request.known)
    most = (room if grant.at_most is None else min(room, grant.at_most)) - 1
    drafts = drafter.draft(request, most) if most > 0 else ()
    return drafts if kv.grow(request, 1 + len(drafts)) else ()
