"""Watching a server: its iterations as events, and its live requests with their K/V blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from orcinus.serve.iteration_events import IterationEvent
from orcinus.serve.service import Service

MOST_BEHIND = 1000  # iterations queued for a slow watcher; later ones are dropped and counted


class Watcher:
    """A watcher of a server's iterations, as server-sent events."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.dropped = 0
        self._queue: asyncio.Queue[IterationEvent | None] = asyncio.Queue()
        service.iteration_events.add(self.hear)
        service.watchers.append(self.close)

    def hear(self, event: IterationEvent) -> None:
        """Queue an event, or count it as dropped if too many wait."""
        if self._queue.qsize() < MOST_BEHIND:
            self._queue.put_nowait(event)
        else:
            self.dropped += 1

    async def frames(self) -> AsyncIterator[bytes]:
        """Events until the watcher goes."""
        while True:
            try:
                async with asyncio.timeout(self.service.config.keep_alive):
                    event = await self._queue.get()
            except TimeoutError:
                yield b": keep-alive\n\n"
                continue
            if event is None:
                return
            yield event.frame(self.dropped)

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        if self.close in self.service.watchers:
            self.service.iteration_events.remove(self.hear)
            self.service.watchers.remove(self.close)
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
