"""Iterations of a server's engines as server-sent events, made once for all watchers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orcinus.serve.dialects.reply import to_json
from orcinus.serve.messages import EngineOutput, ScheduledBatch
from orcinus.serve.replica_set import ReplicaSet


class IterationEvent:
    """An event whose text is made when the first watcher reads it."""

    def __init__(self, make: Callable[[], dict[str, Any]], kind: str = "") -> None:
        self._make, self._head = make, f"event: {kind}\ndata: ".encode() if kind else b"data: "
        self._frame: bytes | None = None

    def frame(self, dropped: int) -> bytes:
        """The event for a watcher that missed so many."""
        if self._frame is None:
            self._frame = self._head + to_json(self._make())[:-1]
        return self._frame + b',"dropped":%d}\n\n' % dropped


class IterationEvents:
    """Hears all engines while there are watchers; meanwhile engines time their pipeline stages."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self._replicas = replicas
        self._watchers: list[Callable[[IterationEvent], None]] = []

    def add(self, watcher: Callable[[IterationEvent], None]) -> None:
        """Have a watcher called with every event from now on."""
        if not self._watchers:
            self._replicas.listeners.append(self._hear)
            self._replicas.settings.time_stages(True)
        self._watchers.append(watcher)

    def remove(self, watcher: Callable[[IterationEvent], None]) -> None:
        """Call it no more."""
        self._watchers.remove(watcher)
        if not self._watchers:
            self._replicas.listeners.remove(self._hear)
            self._replicas.settings.time_stages(False)

    def _hear(self, replica: int, iteration: EngineOutput) -> None:
        policy, (ttft, tbt) = self._replicas.settings.policy, self._latencies(iteration)
        for batch in iteration.batches:
            facts = {"replica": replica, "policy": policy, "seconds": iteration.seconds, "ttft": ttft, "tbt": tbt}
            self._tell(IterationEvent(lambda batch=batch, facts=facts: facts | _describe(batch)))  # type: ignore[misc]
            ttft, tbt = {}, {}  # told once
        if iteration.stage_runs:
            runs = [run._asdict() for run in iteration.stage_runs]
            self._tell(IterationEvent(lambda: {"replica": replica, "runs": runs}, "stages"))

    def _tell(self, event: IterationEvent) -> None:
        for watcher in tuple(self._watchers):
            watcher(event)

    def _latencies(self, iteration: EngineOutput) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Seconds to the first token, and before each later one, of the requests that got tokens.

        Streams do not know these tokens yet. Several for one request: drafts, or answers that were held back.
        """
        ttft, tbt, newest = dict[str, float](), dict[str, list[float]](), dict[str, float]()
        for token in iteration.tokens:
            name, stream = token.request_id, self._replicas.streams.find(token.request_id)
            if stream is None:
                continue
            last = newest.get(name, stream.last_token)
            if last is None:
                ttft[name] = token.at - stream.answer.metrics.arrival
            else:
                tbt.setdefault(name, []).append(token.at - last)
            newest[name] = token.at
        return ttft, tbt


def _describe(batch: ScheduledBatch) -> dict[str, Any]:
    """A batch, and how full the engine was."""
    unserved = batch.unserved
    return {
        "batch": batch.batch,
        "at": batch.at,
        "budget": batch.budget,
        "chunks": [{"id": r.id, "start": r.start, "tokens": r.tokens, "prefill": r.prefill} for r in batch.chunks],
        "removed": batch.removed,
        "waiting": unserved.num_waiting,
        "running": unserved.num_running,
        "free_blocks": unserved.free_blocks,
        "reasons": unserved.reasons,
        "others": unserved.others,
    }
