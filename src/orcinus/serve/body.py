"""From the bytes of a request to a checked body, or an error that names the field."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from orcinus.serve.errors import CLIENT_CLOSED, ApiError
from orcinus.serve.workers import Workers

MOST_BYTES = 8 * 2**20
AT_ONCE = 64 * 1024  # bytes that are parsed in less time than it takes to ask a thread
DEEPEST = 64
SILENCE_S = 10.0
Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, kind: type[Body], workers: Workers) -> Body:
    """The body of a request; a large one is parsed beside the event loop. Raises `ApiError` 400, 408, 413 or 415."""
    raw = await _bytes(request)
    if len(raw) <= AT_ONCE:
        return parse(raw, kind)
    try:
        return await workers.run(parse, raw, kind)
    except TimeoutError:
        raise ApiError(400, f"parsing the body takes longer than {workers.limit_s:.0f} s", code="invalid_json") from None


async def _bytes(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "send the body with Content-Type: application/json", code="unsupported_media_type")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MOST_BYTES:
        raise _too_large()
    raw = bytearray()
    stream = request.stream()
    try:
        while (chunk := await _next(stream)) is not None:
            raw += chunk
            if len(raw) > MOST_BYTES:
                raise _too_large()
    except TimeoutError:
        message = f"the body is not complete, and nothing came for {SILENCE_S:.0f} s"
        raise ApiError(408, message, code="slow_request", headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise ApiError(CLIENT_CLOSED, "the client hung up", code="client_closed") from None
    return bytes(raw)


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    """The next part of a body; None after the last. Raises `TimeoutError` if the client falls silent."""
    async with asyncio.timeout(SILENCE_S):
        return await anext(stream, None)


def parse(raw: bytes, kind: type[Body]) -> Body:
    """Bytes as a body of this kind. Raises `ApiError` 400 that names the first field at fault."""
    try:
        found = msgspec.json.decode(raw)  # strict: no NaN, no number without end, no half of a character
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(
            400, "the body is no valid JSON in UTF-8, or a number in it is out of range", code="invalid_json"
        ) from None
    if not isinstance(found, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    _check_depth(found)
    found = {name: _whole(value) for name, value in found.items()}
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        located = [(_location(found, one), one) for one in error.errors(include_url=False, include_context=False)]
        location, worst = max(located, key=lambda pair: len(pair[0]))  # the deepest says most; of equals, the first
        param = _spell(location)
        what = "is required" if worst["type"] == "missing" else worst["msg"][0].lower() + worst["msg"][1:]
        raise ApiError(400, f"{param}: {what}", param=param, code="invalid_value") from None


def _whole(value: Any) -> Any:
    """3.0 is a whole number too, as JSON Schema has it; also in a list of token ids."""
    if isinstance(value, list) and any(isinstance(one, float) for one in value):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _location(found: Any, error: Any) -> list[int | str]:
    """Where in the body an error is. Parts that name an arm of a union lead nowhere in it and are left out."""
    location: list[int | str] = []
    for part in error["loc"]:
        inside = (isinstance(found, dict) and part in found) or (isinstance(found, list) and isinstance(part, int))
        if inside:
            found = found[part]
        if inside or (error["type"] == "missing" and part == error["loc"][-1]):
            location.append(part)
    return location


def _spell(parts: list[int | str]) -> str:
    spelled = ""
    for part in parts:
        spelled += f"[{part}]" if isinstance(part, int) else f".{part}" if spelled else str(part)
    return spelled


def _check_depth(found: Any) -> None:
    """Level by level, because whoever nests deeply would exhaust a recursion."""
    level = [found]
    for _ in range(DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ApiError:
    return ApiError(400, f"the body is nested more than {DEEPEST} deep", code="invalid_json")


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MOST_BYTES // 2**20} MiB", code="body_too_large")
