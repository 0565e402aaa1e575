"""Time that pipeline stages wait for each other, as the requests suffer it (SARATHI, section 3.3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from orcinus.core.batch import Batch, Event, Finished
from orcinus.core.ports import Observer
from orcinus.core.unserved import Unserved
from orcinus.observe.distribution import Distribution
from orcinus.sim.executor import SimulatedExecutor


class BubbleObserver(Observer):
    """Seconds of bubbles in front of all batches that carried a request, over all stages: a distribution over requests."""

    def __init__(self, executor: SimulatedExecutor, per_request: Distribution) -> None:
        self._executor, self._per_request = executor, per_request
        self._live: defaultdict[str, float] = defaultdict(float)

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        seconds = self._executor.newest_bubbles
        for chunk in batch.chunks:
            self._live[chunk.request_id] += seconds

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self._per_request.add(self._live.pop(event.request_id, 0.0))
