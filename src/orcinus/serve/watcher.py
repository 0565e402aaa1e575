"""Watching a server's iterations: each one as an event, and the live requests with their K/V blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from orcinus.core.batch import StageRun
from orcinus.serve.dialects.reply import to_json
from orcinus.serve.messages import EngineOutput, ScheduledBatch
from orcinus.serve.service import Service

MOST_BEHIND = 1000  # iterations queued for a slow watcher; later ones are dropped and counted


class _Heard(NamedTuple):
    """A batch that returned, with what its iteration brought."""

    replica: int
    batch: ScheduledBatch
    seconds: float
    ttft: dict[str, float]
    tbt: dict[str, list[float]]  # several for one request: drafts, or answers that were held back


class _HeardStages(NamedTuple):
    """Batches that pipeline stages of a replica have run."""

    replica: int
    runs: list[StageRun]


class Watcher:
    """A watcher: every launched batch as a server-sent event.

    Engines time their pipeline stages while there is one.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.dropped = 0
        self._queue: asyncio.Queue[_Heard | _HeardStages | None] = asyncio.Queue()
        service.replicas.listeners.append(self.hear)
        service.watchers.append(self.close)
        service.replicas.settings.time_stages(True)

    def hear(self, replica: int, iteration: EngineOutput) -> None:
        """Queue an iteration, or count it as dropped if too many wait."""
        ttft, tbt = self._latencies(iteration)
        for batch in iteration.batches:
            if self._queue.qsize() < MOST_BEHIND:
                self._queue.put_nowait(_Heard(replica, batch, iteration.seconds, ttft, tbt))
            else:
                self.dropped += 1
            ttft, tbt = {}, {}  # told once
        if iteration.stage_runs and self._queue.qsize() < MOST_BEHIND:
            self._queue.put_nowait(_HeardStages(replica, iteration.stage_runs))

    def _latencies(self, iteration: EngineOutput) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Seconds to the first token, and before each later one, of the requests that got tokens.

        Streams do not know these tokens yet.
        """
        ttft, tbt, newest = dict[str, float](), dict[str, list[float]](), dict[str, float]()
        for token in iteration.tokens:
            name, stream = token.request_id, self.service.replicas.streams.find(token.request_id)
            if stream is None:
                continue
            last = newest.get(name, stream.last_token)
            if last is None:
                ttft[name] = token.at - stream.answer.metrics.arrival
            else:
                tbt.setdefault(name, []).append(token.at - last)
            newest[name] = token.at
        return ttft, tbt

    async def frames(self) -> AsyncIterator[bytes]:
        """Events until the watcher goes."""
        while True:
            try:
                async with asyncio.timeout(self.service.config.keep_alive):
                    heard = await self._queue.get()
            except TimeoutError:
                yield b": keep-alive\n\n"
                continue
            if heard is None:
                return
            if isinstance(heard, _HeardStages):
                runs = [run._asdict() for run in heard.runs]
                yield b"event: stages\ndata: " + to_json({"replica": heard.replica, "runs": runs}) + b"\n\n"
            else:
                yield b"data: " + to_json(self._event(heard)) + b"\n\n"

    def _event(self, heard: _Heard) -> dict[str, Any]:
        batch = heard.batch
        chunks = [{"id": r.id, "start": r.start, "tokens": r.tokens, "prefill": r.prefill} for r in batch.chunks]
        unserved = batch.unserved
        counts = {"waiting": unserved.num_waiting, "running": unserved.num_running, "free_blocks": unserved.free_blocks}
        why = {"reasons": unserved.reasons, "others": unserved.others}
        facts = {
            "replica": heard.replica,
            "policy": self.service.replicas.settings.policy,
            "batch": batch.batch,
            "at": batch.at,
            "seconds": heard.seconds,
            "budget": batch.budget,
            "chunks": chunks,
            "ttft": heard.ttft,
            "tbt": heard.tbt,
            "removed": batch.removed,
        }
        return {**facts, **counts, **why, "dropped": self.dropped}

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        if self.hear in self.service.replicas.listeners:
            self.service.replicas.listeners.remove(self.hear)
            self.service.watchers.remove(self.close)
            self.service.replicas.settings.time_stages(bool(self.service.watchers))
        self._queue.put_nowait(None)


def live_requests(service: Service) -> dict[str, Any]:
    """All live requests with their blocks, as `LiveRequestList` describes them."""
    engines, streams, tables = service.replicas.engines, service.replicas.streams, service.block_tables
    ready = [engine.ready for engine in engines]
    sizes = [one.block_size if one else 0 for one in ready]
    return {
        "now": time.monotonic(),
        "block_size": sizes,
        "num_blocks": [one.num_blocks if one else 0 for one in ready],
        "requests": [
            {
                "id": stream.answer.request_id,
                "replica": stream.engine.index,
                "arrival": stream.answer.metrics.arrival,
                "prompt_tokens": len(stream.prepared.ids),
                "max_tokens": stream.prepared.params.max_tokens,
                "output_tokens": len(stream.answer.token_ids),
                "slo": dict(stream.prepared.context.slo.bounds) if stream.prepared.context.slo else None,
                "computed_tokens": tables.computed.get(stream.answer.request_id, 0),
                "blocks": tables.blocks.get(stream.answer.request_id, []),
                "filled_blocks": tables.filled(stream.answer.request_id, sizes[stream.engine.index]),
            }
            for stream in streams.all()
        ],
    }
