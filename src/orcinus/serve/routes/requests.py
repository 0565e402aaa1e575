"""Single requests: cancel one, or see its timeline."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from orcinus.errors import ConfigError, EngineError, shown
from orcinus.serve.calls import Call
from orcinus.serve.dialects.openai_reply import timings
from orcinus.serve.errors import ApiError
from orcinus.serve.openapi import ANY_ERRORS, gives
from orcinus.serve.response_schema import Cancelled, TimelineOfRequest
from orcinus.serve.service import Service


def router(service: Service) -> APIRouter:
    """`POST /v1/requests/{id}/cancel` and `GET /v1/requests/{id}/timeline`.

    The id is that of the response.
    """
    routes = APIRouter()

    def find(request: Request, id: str) -> Call:  # noqa: A002
        """The caller's own call. Raises `ApiError` 404 for any other."""
        holder = request.scope["orcinus"]["holder"]
        call = service.calls.find(id, None if holder is None or holder.admin else holder.name)
        if call is None:
            raise ApiError(404, f"there is no request {shown(id)}, or it ended long ago", param="id", code="request_not_found")
        return call

    @routes.post("/v1/requests/{id}/cancel", **gives(Cancelled, (404, *ANY_ERRORS)))
    async def cancel(request: Request, id: str) -> dict[str, Any]:  # noqa: A002
        return {"id": id, "cancelled": find(request, id).cancel()}

    @routes.get("/v1/requests/{id}/timeline", **gives(TimelineOfRequest, (404, *ANY_ERRORS)))
    async def timeline(request: Request, id: str) -> dict[str, Any]:  # noqa: A002
        call = find(request, id)
        answers: list[dict[str, Any]] = []
        try:
            for name in call.names:
                found = await service.replicas.timeline(name)
                found.promise = service.replicas.streams.promise(name)
                answers.append({"index": len(answers), "finish": found.finish, **timings(found), "waits": found.waits})
        except ConfigError as error:
            raise ApiError(404, str(error), param="id", code="request_not_found") from None
        except EngineError as error:
            raise service.explain(error) from None
        return {"id": id, "answers": answers}

    return routes
