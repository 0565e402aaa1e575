"""K/V memory usage and waste, by kind (vLLM, SOSP 2023, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

from orcinus.core.batch import Batch
from orcinus.core.ports import Observer
from orcinus.core.request import Request
from orcinus.core.scheduler import Scheduler
from orcinus.core.unserved import Reason, Unserved

EVERY = 7  # iterations between observations, which cost more than planning


class KVUseObserver(Observer):
    """Shares of the K/V pool by kind, averaged over time.

    used: keys and values of tokens that are computed or in flight. reserved: held for tokens that will be computed later.
    internal: held but never used, because a request ends early, or in the middle of a block. external: free, but the first
    request in the queue does not fit. idle: free, and no request waits. `final` tells how many tokens a request will hold at
    its end; a real engine knows only the maximum.
    """

    def __init__(self, scheduler: Scheduler, final: Callable[[Request], int] = lambda request: request.max_known) -> None:
        self._scheduler, self._final = scheduler, final
        self._shares = dict.fromkeys(("used", "reserved", "internal", "external", "idle"), 0.0)
        self._seconds = 0.0
        self._looks = 0
        self._seen: tuple[float, dict[str, float]] | None = None  # time and shares of the last observation

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self._looks += 1
        if self._looks % EVERY == 1:
            self._close(now)
            self._seen = now, self._look(unserved)

    def on_close(self) -> None:
        self._seen = None

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the pool by kind; they add up to 1."""
        return {kind: total / self._seconds for kind, total in self._shares.items()} if self._seconds else dict(self._shares)

    def _close(self, now: float) -> None:
        """Weigh the last observation by the time since then."""
        if self._seen is not None:
            since, shares = self._seen
            self._seconds += now - since
            for kind, share in shares.items():
                self._shares[kind] += share * (now - since)

    def _look(self, unserved: Unserved) -> dict[str, float]:
        kv = self._scheduler.kv
        used = reserved = held = 0
        for request in self._scheduler.running:
            tables = kv.blocks(request)
            room = len(tables[0]) * kv.block_size
            held += room
            written = request.launched
            used += min(written, room)
            reserved += max(0, min(self._final(request), room) - written)
        places = kv.num_blocks * kv.block_size
        taken = places - kv.num_free * kv.block_size
        scale = taken / held if held else 0.0  # below 1 if requests share blocks
        refused = Reason.NO_BLOCKS in unserved.reasons.values()
        free = (places - taken) / places
        return {
            "used": used * scale / places,
            "reserved": reserved * scale / places,
            "internal": (held - used - reserved) * scale / places,
            "external": free if refused else 0.0,
            "idle": 0.0 if refused else free,
        }
