"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.routing import Match

from orcinus.errors import shown

TYPES = {401: "authentication_error", 403: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
CLIENT_CLOSED = 499  # nginx's status for a client that hung up; it is only logged
log = logging.getLogger("orcinus.serve")


class ApiError(Exception):
    """An error response.

    `param` names the wrong field, with its index; `code` is a stable word.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, object]:
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """Error 400 for a field that cannot be used."""
    return ApiError(400, message, param=param, code=code)


def unavailable(message: str, code: str, seconds: int = 10) -> ApiError:
    """Error 503: the server cannot take a valid request now."""
    return ApiError(503, message, code=code, headers={"Retry-After": str(seconds)})


def response(error: ApiError) -> JSONResponse:
    """The error as a response."""
    return JSONResponse(error.body, error.status, error.headers)


async def on_api_error(_: Request, error: Exception) -> JSONResponse:
    """Handler of our own errors."""
    assert isinstance(error, ApiError)
    return response(error)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of the framework's errors: unknown paths and wrong methods."""
    status = int(getattr(error, "status_code", 500))
    headers = dict(getattr(error, "headers", None) or {})
    if status == 404:
        return response(ApiError(404, f"there is no {request.method} {shown(request.url.path)[1:-1]}", code="unknown_url"))
    if status == 405:
        allowed = ", ".join(_methods(request))
        message = f"this path takes {allowed}, not {request.method}"
        return response(ApiError(405, message, code="method_not_allowed", headers={"Allow": allowed}))
    return response(ApiError(status, str(getattr(error, "detail", "the request failed")), headers=headers))


def _methods(request: Request) -> list[str]:
    """The methods all routes of a path accept; GET includes HEAD."""
    matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    found = {method for route in matching for method in getattr(route, "methods", None) or ()}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


async def on_any_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of unexpected exceptions: status 500, and a line in the log."""
    log.error("a defect answered %s %s with 500", request.method, request.url.path, exc_info=error)
    return response(ApiError(500, "the server has a defect; its log says which", code="internal_error"))
