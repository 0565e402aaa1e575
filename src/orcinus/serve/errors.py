"""Errors, in the form of the API that the path belongs to.

OpenAI's is `{"error": {"message", "type", "param", "code"}}`, Anthropic's `{"type": "error", "error": {"type", "message"},
"request_id"}`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.routing import Match
from starlette.types import Scope

from orcinus.errors import printable, shown

TYPES = {401: "authentication_error", 403: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
MESSAGES = "/v1/messages"  # here and below, errors have Anthropic's form and types
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    499: "api_error",
    503: "overloaded_error",
}
CLIENT_CLOSED = 499  # nginx's status for a client that hung up; it is only logged
log = logging.getLogger("orcinus.serve")


class ApiError(Exception):
    """An error response.

    `param` names the wrong field, with its index; `code` is a stable word. Names that clients choose stand in `message` and
    `param`, so both are made `printable`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        message, param = printable(message), None if param is None else printable(param)
        super().__init__(message)
        self.facts = dict(facts or {})  # more of the error, for programs
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, object]:
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code, **self.facts}}


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """Error 400 for a field that cannot be used."""
    return ApiError(400, message, param=param, code=code)


def unavailable(message: str, code: str, seconds: int = 10) -> ApiError:
    """Error 503: the server cannot take a valid request now."""
    return ApiError(503, message, code=code, headers={"Retry-After": str(seconds)})


def is_messages(path: str) -> bool:
    """Whether a path belongs to Anthropic's API."""
    return path == MESSAGES or path.startswith(MESSAGES + "/")


def error_body(error: ApiError, path: str, request_id: str | None) -> dict[str, object]:
    """The error in the form of the API that a path belongs to."""
    if not is_messages(path):
        return error.body
    kind = ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message, **error.facts}, "request_id": request_id}


def response(error: ApiError, scope: Scope) -> JSONResponse:
    """The error as the response to a request."""
    scope["orcinus"]["error"] = error.code
    request_id = error.headers.get("X-Request-ID") or scope["orcinus"]["request_id"]
    return JSONResponse(error_body(error, scope["path"], request_id), error.status, error.headers)


async def on_api_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of our own errors."""
    assert isinstance(error, ApiError)
    return response(error, request.scope)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of the framework's errors: unknown paths and wrong methods."""
    status = int(getattr(error, "status_code", 500))
    headers = dict(getattr(error, "headers", None) or {})
    if status == 404:
        message = f"there is no {request.method} {shown(request.url.path)[1:-1]}"
        return response(ApiError(404, message, code="unknown_url"), request.scope)
    if status == 405:
        allowed = ", ".join(_methods(request))
        message = f"this path takes {allowed}, not {request.method}"
        return response(ApiError(405, message, code="method_not_allowed", headers={"Allow": allowed}), request.scope)
    return response(ApiError(status, str(getattr(error, "detail", "the request failed")), headers=headers), request.scope)


def _methods(request: Request) -> list[str]:
    """The methods all routes of a path accept; GET includes HEAD."""
    matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    found = {method for route in matching for method in getattr(route, "methods", None) or ()}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


async def on_any_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of unexpected exceptions: status 500, and a line in the log."""
    log.error("a defect answered %s %s with 500", request.method, request.url.path, exc_info=error)
    return response(ApiError(500, "the server has a defect; its log says which", code="internal_error"), request.scope)
