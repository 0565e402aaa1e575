"""Whether the server is alive and takes requests, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orcinus.serve.openapi import ANY_ERRORS, gives
from orcinus.serve.response_schema import StatusMessage
from orcinus.serve.responses import JSON
from orcinus.serve.routes.admin import admin_only
from orcinus.serve.service import Service


def router(service: Service) -> APIRouter:
    """`/health`, `/ready` and `/metrics`.

    With keys, metrics are for admin keys only: two readings around a request of another client give its sizes.
    """
    routes = APIRouter()

    @routes.get("/health", **gives(StatusMessage, (503,)))
    async def health() -> Response:
        service.check_alive()
        return JSON({"status": "restarting" if service.restarting else "ok"})

    @routes.get("/ready", **gives(StatusMessage, ANY_ERRORS))
    async def ready() -> Response:
        service.check_ready()
        return JSON({"status": "paused" if service.paused else "ready"})

    @routes.get("/metrics", dependencies=[Depends(admin_only)], **gives(None, (400, 401, 403)))
    async def metrics(request: Request) -> Response:
        text, kind = service.metrics.page(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": kind})

    return routes
