"""Every iteration of a run, as a benchmark keeps it."""

from __future__ import annotations

from orcinus.bench.record import Iteration
from orcinus.core.batch import Batch, BatchResult
from orcinus.core.ports import Observer


class IterationObserver(Observer):
    """Collects iterations: in each of them only what is needed to look at it later."""

    def __init__(self) -> None:
        self._launched: dict[int, float] = {}
        self._seen: list[tuple[float, float, Batch]] = []

    def on_batch(self, batch: Batch, now: float) -> None:
        self._launched[batch.id] = now

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        self._seen.append((self._launched.pop(batch.id), now, batch))

    def since(self, start: float) -> tuple[Iteration, ...]:
        """In the order in which they returned, with moments counted from `start` on the engine's clock."""
        return tuple(_iteration(launched - start, returned - start, batch) for launched, returned, batch in self._seen)

    def cached_tokens(self) -> dict[str, int]:
        """Prompt tokens that each request did not have to compute when it first ran."""
        found: dict[str, int] = {}
        for _, _, batch in self._seen:
            for chunk in batch.chunks:
                found.setdefault(chunk.request_id, chunk.start)
        return found


def _iteration(launched: float, returned: float, batch: Batch) -> Iteration:
    prefill = sum(len(chunk.tokens) for chunk in batch.chunks if chunk.start < chunk.prompt_length)
    seen = batch.unserved
    counts = (len(batch.chunks), prefill, batch.num_tokens - prefill, seen.num_waiting, seen.num_running, seen.free_blocks)
    return Iteration(launched, returned, *counts)
