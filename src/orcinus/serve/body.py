"""Parses request bodies; errors name the field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from pydantic import ValidationError

from orcinus.serve.body_reader import BodyReader, receive
from orcinus.serve.errors import ApiError
from orcinus.serve.object_schema import Object
from orcinus.serve.text_threads import TextThreads
from orcinus.serve.validation import check_fields, invalid_fields, spell, type_name

AT_ONCE = 64 * 1024  # bytes parsed faster than a thread is called
DEEPEST, MOST_FIELDS = 64, 1000
COUNTED = (  # limits of a body: converting more would stop all threads for long
    (b"[{", 2**16, "lists and objects"),
    (b":", 2**17, "fields"),
    (b",", 2**20, "values"),
)
Body = TypeVar("Body", bound=Object)


async def read_body(
    request: Request, kind: type[Body], workers: TextThreads, reading: BodyReader, *, strict: bool = False
) -> tuple[Body, list[str]]:
    """The checked body of a request, and its ignored fields; large ones are parsed and checked in a thread.

    Raises `ApiError` 400, 408, 413, 415 or 429.
    """
    try:
        with reading.body() as body:
            raw = await receive(request, body)
            return checked(raw, kind, strict) if len(raw) <= AT_ONCE else await workers.run(checked, raw, kind, strict)
    except TimeoutError:
        raise ApiError(400, f"parsing the body takes longer than {workers.limit_s:.0f} s", code="invalid_json") from None


def checked(raw: bytes, kind: type[Body], strict: bool) -> tuple[Body, list[str]]:
    """Bytes as a body of this kind, and its ignored fields. Raises `ApiError` 400."""
    body = parse(raw, kind)
    return body, check_fields(body, strict=strict)


def parse(raw: bytes, kind: type[Body]) -> Body:
    """Parse bytes as a body of this kind.

    Raises `ApiError` 400 that names the wrong fields.
    """
    _check_count(raw)
    try:
        found = msgspec.json.decode(raw)  # strict: no NaN, no infinite number, no lone surrogate
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _not_json(raw) from None
    if not isinstance(found, dict):
        raise ApiError(400, f"the body must be a JSON object, not {type_name(found)}", code="invalid_json")
    _check_depth(found)
    if len(found) > MOST_FIELDS:
        raise ApiError(400, f"the body has {len(found)} fields, more than {MOST_FIELDS}", code="invalid_value")
    found = {name: _whole(value) for name, value in found.items()}
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise invalid_fields(found, error, kind.index_form) from None


def _whole(value: Any) -> Any:
    """A value with whole floats as integers, as JSON Schema allows.

    It also converts inside a list of token ids.
    """
    if isinstance(value, list) and any(isinstance(one, float) for one in value):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_json(raw: bytes) -> ApiError:
    """Why bytes are not JSON, found by a slower parser."""
    if not raw.strip():
        return _no_json("the body is empty: send a JSON object")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return _no_json(f"the body is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}")
    if text.startswith("\ufeff"):
        return _no_json("the body begins with a byte order mark: leave it out")
    try:
        found = json.loads(text, parse_constant=_NotJson, parse_float=_number, parse_int=_number)
    except json.JSONDecodeError as error:
        what = (error.msg[0].lower() + error.msg[1:]).removesuffix(" at")  # "unterminated string starting at"
        return _no_json(f"the body is not valid JSON: {what} at line {error.lineno}, column {error.colno}")
    except RecursionError:
        return _too_deep()
    for place, what in _faults(found):
        where = spell(place)
        return _no_json(f"{where}: {what}" if where else f"the body: {what}", where or None)
    return _no_json("the body is not valid JSON")


class _NotJson(str):
    """A NaN, an infinity, or a number too large for a float."""

    __slots__ = ()


def _number(text: str) -> float | _NotJson:
    return value if len(text) < 400 and abs(value := float(text)) != float("inf") else _NotJson("")


def _faults(found: Any) -> Iterator[tuple[list[int | str], str]]:
    """The places and reasons of invalid JSON values.

    Without recursion, because the body may be nested deeply.
    """
    waiting: list[tuple[list[int | str], Any]] = [([], found)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, _NotJson):
            yield place, f"{value} is not a number in JSON" if value else "the number is out of range"
        elif isinstance(value, str) and not _is_unicode(value):
            yield place, "the string has half a surrogate pair"
        elif isinstance(value, dict):
            if not all(map(_is_unicode, value)):
                yield place, "the name of a field has half a surrogate pair"
            waiting += [([*place, name], inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [([*place, index], inner) for index, inner in reversed(list(enumerate(value)))]


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _check_count(raw: bytes) -> None:
    """Raise `ApiError` for too many brackets, colons or commas.

    Marks inside strings are told apart only if the raw count is too high.
    """
    for marks, most, what in COUNTED:
        if _count(raw, marks) > most and _count(_outside_strings(raw), marks) > most:
            raise _no_json(f"the body has more than {most} {what}")


def _count(raw: bytes, marks: bytes) -> int:
    return sum(raw.count(mark) for mark in marks)


def _outside_strings(raw: bytes) -> bytes:
    return b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])


def _check_depth(found: Any) -> None:
    """Raise `ApiError` for deep nesting; works by level, without recursion."""
    level = [found]
    for _ in range(DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise _too_deep()


def _no_json(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_json")


def _too_deep() -> ApiError:
    return _no_json(f"the body is nested more than {DEEPEST} deep")
