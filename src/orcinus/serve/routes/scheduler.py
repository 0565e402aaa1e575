"""Routes to inspect, switch, pause and watch the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orcinus.errors import ConfigError, EngineError
from orcinus.serve.dialects.reply import to_json
from orcinus.serve.engine_client import EngineClient
from orcinus.serve.errors import ApiError, invalid, unavailable
from orcinus.serve.messages import EngineOutput, ScheduledBatch, Use, Using
from orcinus.serve.openapi import ANY_ERRORS, BODY_ERRORS, gives, takes
from orcinus.serve.response_schema import SchedulerState, StatusMessage
from orcinus.serve.responses import Events
from orcinus.serve.schema import SchedulerBody
from orcinus.serve.service import Service

COUNTS = ("running", "waiting", "free_blocks", "num_blocks")
MOST_WATCHERS = 32
MOST_BEHIND = 1000  # iterations queued for a slow watcher; later ones are dropped and counted


def router(service: Service) -> APIRouter:
    """`/v1/scheduler`, `/v1/scheduler/iterations`, `/pause`, `/resume` and `/drain`.

    With keys, these are for admin keys only.
    """

    routes = APIRouter(dependencies=[Depends(_admin)])

    @routes.get("/v1/scheduler", **gives(SchedulerState, ANY_ERRORS))
    async def scheduler() -> dict[str, Any]:
        return await _use(service, Use())

    @routes.put("/v1/scheduler", **takes(SchedulerBody, SchedulerState, BODY_ERRORS))
    async def switch(request: Request) -> dict[str, Any]:
        body = await service.read(request, SchedulerBody)
        return await _use(service, Use(**body.model_dump()))

    @routes.get("/v1/scheduler/iterations", **gives(None, (429, *ANY_ERRORS), kind="text/event-stream"))
    async def iterations() -> Response:
        _ = service.processor
        if len(service.watchers) >= MOST_WATCHERS:
            message = f"{MOST_WATCHERS} connections watch iterations already"
            raise ApiError(429, message, code="too_many_watchers", headers={"Retry-After": "10"})
        watcher = Watcher(service)
        return Events(watcher.frames(), {}, watcher.close, lambda scope: watcher.close())

    @routes.post("/pause", **gives(StatusMessage, ANY_ERRORS))
    async def pause() -> dict[str, str]:
        _ = service.processor
        service.paused = True
        service.replicas.pause(True)
        return {"status": "paused"}

    @routes.post("/resume", **gives(StatusMessage, ANY_ERRORS))
    async def resume() -> dict[str, str]:
        _ = service.processor
        service.paused = service.draining = False
        service.replicas.pause(False)
        return {"status": "ready"}

    @routes.post("/drain", **gives(StatusMessage, ANY_ERRORS))
    async def drain() -> dict[str, str]:
        _ = service.processor
        service.drain()
        return {"status": "draining"}

    return routes


def _admin(request: Request) -> None:
    holder = request.scope["orcinus"]["holder"]
    if holder is not None and not holder.admin:
        raise ApiError(403, "this needs an admin key", code="admin_key_required")


async def _use(service: Service, change: Use) -> dict[str, Any]:
    """Make a change, if any, and return the scheduler's state."""
    _ = service.processor
    try:
        found = await service.replicas.use(change)
    except ConfigError as error:
        given = [
            name for name in ("policy", "order", "max_batch_size", "max_batch_tokens") if getattr(change, name) is not None
        ]
        raise invalid(given[0] if len(given) == 1 else None, str(error)) from None
    except EngineError:
        raise unavailable("the engine is gone", "engine_dead") from None
    now = next(iter(found.values()))
    replicas = [_replica(service.replicas.engines[index], using) for index, using in found.items()]
    counts = {name: sum(replica[name] for replica in replicas) for name in COUNTS}
    return {
        "policy": now.policy,
        "order": now.order,
        "limits": {"max_batch_size": now.max_batch_size, "max_batch_tokens": now.max_batch_tokens},
        "paused": now.paused,
        "draining": service.draining,
        **counts,
        "queue": {"answers": service.admission.answers, "tokens": service.admission.tokens},
        "replicas": replicas,
    }


def _replica(engine: EngineClient, now: Using) -> dict[str, Any]:
    """The load of a replica, and where its ranks run."""
    num_blocks = engine.ready.num_blocks if engine.ready else 0
    counts = {"running": now.running, "waiting": now.waiting, "free_blocks": now.free_blocks, "num_blocks": num_blocks}
    ranks = [rank._asdict() for rank in engine.ready.ranks] if engine.ready else []
    return {"replica": engine.index, **counts, "ranks": ranks}


class Watcher:
    """A watcher: every launched batch as a server-sent event."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.dropped = 0
        self._queue: asyncio.Queue[tuple[int, ScheduledBatch, float] | None] = asyncio.Queue()
        service.replicas.listeners.append(self.hear)
        service.watchers.append(self.close)

    def hear(self, replica: int, iteration: EngineOutput) -> None:
        """Queue an iteration, or count it as dropped if too many wait."""
        for batch in iteration.batches:
            if self._queue.qsize() < MOST_BEHIND:
                self._queue.put_nowait((replica, batch, iteration.seconds))
            else:
                self.dropped += 1

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
            yield b"data: " + to_json(self._event(*heard)) + b"\n\n"

    def _event(self, replica: int, batch: ScheduledBatch, seconds: float) -> dict[str, Any]:
        chunks = [{"id": r.id, "start": r.start, "tokens": r.tokens, "prefill": r.prefill} for r in batch.chunks]
        unserved = batch.unserved
        counts = {"waiting": unserved.num_waiting, "running": unserved.num_running, "free_blocks": unserved.free_blocks}
        why = {"reasons": unserved.reasons, "others": unserved.others}
        facts = {
            "replica": replica,
            "batch": batch.batch,
            "at": batch.at,
            "seconds": seconds,
            "budget": batch.budget,
            "chunks": chunks,
        }
        return {**facts, **counts, **why, "dropped": self.dropped}

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        if self.hear in self.service.replicas.listeners:
            self.service.replicas.listeners.remove(self.hear)
            self.service.watchers.remove(self.close)
        self._queue.put_nowait(None)
