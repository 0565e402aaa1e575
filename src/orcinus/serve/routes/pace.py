"""Routes that stop and start the engines' iterations."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from orcinus.serve.errors import ApiError
from orcinus.serve.openapi import ANY_ERRORS, BODY_ERRORS, gives, takes
from orcinus.serve.response_schema import StatusMessage
from orcinus.serve.routes.admin import admin_only
from orcinus.serve.schema import StepBody
from orcinus.serve.service import Service


def router(service: Service) -> APIRouter:
    """`/pause`, `/resume`, `/drain` and `/v1/scheduler/step`.

    With keys, these are for admin keys only.
    """
    routes = APIRouter(dependencies=[Depends(admin_only)])

    @routes.post("/pause", **gives(StatusMessage, ANY_ERRORS))
    async def pause() -> dict[str, str]:
        _ = service.processor
        service.replicas.settings.set_pace(paused=True)
        return {"status": "paused"}

    @routes.post("/resume", **gives(StatusMessage, ANY_ERRORS))
    async def resume() -> dict[str, str]:
        _ = service.processor
        service.draining = False
        service.replicas.settings.set_pace(paused=False)
        return {"status": "ready"}

    @routes.post("/drain", **gives(StatusMessage, ANY_ERRORS))
    async def drain() -> dict[str, str]:
        _ = service.processor
        service.drain()
        return {"status": "draining"}

    @routes.post("/v1/scheduler/step", **takes(StepBody, StatusMessage, (409, *BODY_ERRORS)))
    async def step(request: Request) -> dict[str, str]:
        _ = service.processor
        body = await service.read(request, StepBody)
        if not service.paused:
            raise ApiError(409, "only a paused engine takes steps: POST /pause first", code="not_paused")
        service.replicas.settings.step(body.iterations)
        return {"status": "paused"}

    return routes
