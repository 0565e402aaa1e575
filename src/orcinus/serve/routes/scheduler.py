"""Routes to inspect, switch and watch the scheduler, and to give it work."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orcinus.errors import ConfigError, EngineError
from orcinus.serve.engine_client import EngineClient
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.messages import Use, Using
from orcinus.serve.openapi import ANY_ERRORS, BODY_ERRORS, gives, takes
from orcinus.serve.request_context import request_context
from orcinus.serve.response_schema import LiveRequestList, LoadOutcome, SchedulerState
from orcinus.serve.responses import Events
from orcinus.serve.routes.admin import admin_only
from orcinus.serve.schema import LoadBody, Sampling, SchedulerBody
from orcinus.serve.service import Service
from orcinus.serve.slo_fields import wanted_slo
from orcinus.serve.trial_load import run_load
from orcinus.serve.watcher import Watcher, live_requests

COUNTS = ("running", "waiting", "free_blocks", "num_blocks")
MOST_WATCHERS = 32
HANG_UP_S = 0.5  # how soon a trial load ends after its client has gone


def router(service: Service) -> APIRouter:
    """`/v1/scheduler`, with `/iterations`, `/requests` and `/load`.

    With keys, these are for admin keys only.
    """

    routes = APIRouter(dependencies=[Depends(admin_only)])

    @routes.get("/v1/scheduler", **gives(SchedulerState, ANY_ERRORS))
    async def scheduler() -> dict[str, Any]:
        return await _use(service, Use())

    @routes.put("/v1/scheduler", **takes(SchedulerBody, SchedulerState, BODY_ERRORS))
    async def switch(request: Request) -> dict[str, Any]:
        body = await service.read(request, SchedulerBody)
        found = await _use(service, Use(**body.model_dump(exclude={"min_iteration_seconds"})))
        if body.min_iteration_seconds is not None:
            service.replicas.settings.set_pace(min_seconds=body.min_iteration_seconds)
            found["min_iteration_seconds"] = body.min_iteration_seconds
        return found

    @routes.post("/v1/scheduler/load", **takes(LoadBody, LoadOutcome, BODY_ERRORS))
    async def load(request: Request) -> dict[str, Any]:
        service.check_open()
        body = await service.read(request, LoadBody)
        context = request_context(
            Sampling(cache_salt=body.cache_salt), request.scope["orcinus"]["holder"], slo=wanted_slo(body.slo, {})
        )
        running = asyncio.create_task(run_load(service, body, context))
        while not (await asyncio.wait((running,), timeout=HANG_UP_S))[0]:
            if await request.is_disconnected():
                running.cancel()
        return await running

    @routes.get("/v1/scheduler/requests", **gives(LiveRequestList, ANY_ERRORS))
    async def live() -> dict[str, Any]:
        _ = service.processor
        return live_requests(service)

    @routes.get("/v1/scheduler/iterations", **gives(None, (429, *ANY_ERRORS), kind="text/event-stream"))
    async def iterations() -> Response:
        _ = service.processor
        if len(service.watchers) >= MOST_WATCHERS:
            message = f"{MOST_WATCHERS} connections watch iterations already"
            raise ApiError(429, message, code="too_many_watchers", headers={"Retry-After": "10"})
        watcher = Watcher(service)
        return Events(watcher.frames(), {}, watcher.close, lambda scope: watcher.close())

    return routes


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
    except EngineError as error:
        raise service.explain(error) from None
    now = next(iter(found.values()))
    replicas = [_replica(service.replicas.engines[index], using) for index, using in found.items()]
    counts = {name: sum(replica[name] for replica in replicas) for name in COUNTS}
    return {
        "policy": now.policy,
        "order": now.order,
        "limits": {"max_batch_size": now.max_batch_size, "max_batch_tokens": now.max_batch_tokens},
        "paused": now.paused,
        "min_iteration_seconds": service.replicas.settings.pace.min_seconds,
        "draining": service.draining,
        **counts,
        "queue": {"answers": service.admission.answers, "tokens": service.admission.tokens},
        "promises": service.metrics.promises,
        "replicas": replicas,
    }


def _replica(engine: EngineClient, now: Using) -> dict[str, Any]:
    """The load of a replica, and where its ranks run."""
    num_blocks = engine.ready.num_blocks if engine.ready else 0
    counts = {"running": now.running, "waiting": now.waiting, "free_blocks": now.free_blocks, "num_blocks": num_blocks}
    ranks = [rank._asdict() for rank in engine.ready.ranks] if engine.ready else []
    return {"replica": engine.index, **counts, "ranks": ranks}
