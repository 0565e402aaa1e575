"""From the bytes of a request to a checked body, or an error that names the field."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from orcinus.serve.errors import ApiError

MOST_BYTES = 8 * 2**20
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
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_BYTES:
            raise _too_large()
    return parse(bytes(raw))


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
    except ValidationError as error:
        cleaned = [([part for part in one["loc"] if not _names_a_type(part)], one) for one in error.errors()]
        location, worst = max(cleaned, key=lambda pair: len(pair[0]))  # the deepest says most; of equals, the first
        param = _spell(location)
        what = "is required" if worst["type"] == "missing" else worst["msg"][0].lower() + worst["msg"][1:]
        raise ApiError(400, f"{param}: {what}", param=param, code="invalid_value") from None


def _names_a_type(part: int | str) -> bool:
    """Whether a part of a location is pydantic's word for one arm of a union, and no field."""
    return isinstance(part, str) and (part in {"str", "int", "float", "bool"} or "[" in part)


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
