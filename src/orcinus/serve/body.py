"""From the bytes of a request to a checked body, or an error that names the field."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from orcinus.serve.errors import CLIENT_CLOSED, ApiError

MOST_BYTES = 8 * 2**20
SILENCE_S = 10.0
DEEPEST = 64
BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')  # whole strings too, so that brackets in them do not count
Body = TypeVar("Body", bound=BaseModel)


async def read_json(request: Request) -> dict[str, Any]:
    """The object in a request's body. Raises `ApiError` 400, 413 or 415."""
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
        raise ApiError(408, message, code="timeout", headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise ApiError(CLIENT_CLOSED, "the client hung up", code="client_closed") from None
    return parse(bytes(raw))


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    """The next part of a body; None after the last. Raises `TimeoutError` if the client falls silent."""
    async with asyncio.timeout(SILENCE_S):
        return await anext(stream, None)


def parse(raw: bytes) -> dict[str, Any]:
    """Bytes to an object, not too deep, without NaN and without halves of characters."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ApiError(400, "the body is not UTF-8", code="invalid_json") from None
    _check_depth(text)
    try:
        found = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:  # only an escape can make half a character of valid UTF-8
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ApiError(400, "the body holds half a surrogate pair", code="invalid_unicode") from None
    except ValueError:
        raise ApiError(400, "the body is no valid JSON", code="invalid_json") from None
    if not isinstance(found, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    return found


def validate(kind: type[Body], found: dict[str, Any]) -> Body:
    """The object as a body of this kind. Raises `ApiError` 400 that names the first field at fault."""
    try:
        return kind.model_validate(found)
    except RecursionError:
        raise ApiError(400, "the body is nested too deep", code="invalid_json") from None
    except ValidationError as error:
        located = [(_location(found, one), one) for one in error.errors(include_url=False, include_context=False)]
        location, worst = max(located, key=lambda pair: len(pair[0]))  # the deepest says most; of equals, the first
        param = _spell(location)
        what = "is required" if worst["type"] == "missing" else worst["msg"][0].lower() + worst["msg"][1:]
        raise ApiError(400, f"{param}: {what}", param=param, code="invalid_value") from None


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


def _check_depth(text: str) -> None:
    depth = 0
    for found in BRACKETS.finditer(text):
        bracket = found[0][0]
        depth += (bracket in "[{") - (bracket in "]}")
        if depth > DEEPEST:
            raise ApiError(400, f"the body is nested more than {DEEPEST} deep", code="invalid_json")


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MOST_BYTES // 2**20} MiB", code="body_too_large")
