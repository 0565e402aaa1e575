"""Draft tokens of a decode (speculative decoding)."""

from __future__ import annotations

from orcinus.core.next_batch import NextBatch
from orcinus.core.ports import Drafter, KVManager
from orcinus.core.view import Grant


def drafts_for(drafter: Drafter, kv: KVManager, grant: Grant, batch: NextBatch) -> tuple[int, ...]:
    """Draft tokens to verify after a decode, with blocks for them.

    No request is preempted for a draft.
    """
    request = grant.request
    if not request.decoding or request.params.needs_history:
        return ()
    room = min(batch.budget, request.max_known - request.known)
    most = (room if grant.at_most is None else min(room, grant.at_most)) - 1
    drafts = drafter.draft(request, most) if most > 0 else ()
    return drafts if kv.grow(request, 1 + len(drafts)) else ()
