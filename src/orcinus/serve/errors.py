"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}` with the right status."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An answer that is an error. `param` names the field at fault, with its index; `code` is a stable word."""

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
        kind = TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


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
        return response(ApiError(404, f"there is no {request.method} {request.url.path}", code="unknown_url"))
    if status == 405:
        allowed = headers.get("allow") or headers.get("Allow", "")
        message = f"this path takes {allowed}, not {request.method}"
        return response(ApiError(405, message, code="method_not_allowed", headers=headers))
    return response(ApiError(status, str(getattr(error, "detail", "the request failed")), headers=headers))


async def on_any_error(_: Request, error: Exception) -> JSONResponse:
    """Handler of defects: the client hears that it was one, and the log hears which."""
    return response(ApiError(500, "the server has a defect; its log says which", code="internal_error"))
