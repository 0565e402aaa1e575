"""Checks of malformed bodies: broken JSON, wrong types, too much."""

from __future__ import annotations

from collections.abc import Callable

from orcinus.conformance.registry import Body, Check, add
from orcinus.conformance.shapes import expect_error
from orcinus.conformance.target import CHAT, TEXT, ServerUnderTest

MEGABYTE = 2**20
DEEP = 20_000
Content = bytes | Callable[[], bytes]

# name, content, its type, status, code
ROWS: list[tuple[str, Content, str | None, int, str | None]] = [
    ("broken JSON", b'{"messages": [', "application/json", 400, "invalid_json"),
    ("two objects", b"{} {}", "application/json", 400, "invalid_json"),
    ("an empty body", b"", "application/json", 400, "invalid_json"),
    ("a list", b"[]", "application/json", 400, None),
    ("null", b"null", "application/json", 400, None),
    ("a string", b'"Hi"', "application/json", 400, None),
    ("a number", b"7", "application/json", 400, None),
    ("text/plain", b"{}", "text/plain", 415, None),
    ("a form", b"prompt=Hi", "application/x-www-form-urlencoded", 415, None),
    ("no content type", b"{}", None, 415, None),
    ("invalid UTF-8", b'{"user": "\xff"}', "application/json", 400, None),
    ("half a surrogate pair", b'{"prompt": "\\ud800", "messages": "\\ud800"}', "application/json", 400, None),
    ("lists nested 20,000 deep", b'{"user": ' + b"[" * DEEP + b"]" * DEEP + b"}", "application/json", 400, None),
    ("objects nested 20,000 deep", b'{"user":' * DEEP + b"1" + b"}" * DEEP, "application/json", 400, None),
    ("a body of 12 MB", lambda: b'{"user": "' + b"x" * (12 * MEGABYTE) + b'"}', "application/json", 413, None),
    ("temperature NaN", b'{"prompt": "Hi", "temperature": NaN}', "application/json", 400, None),
    ("temperature -Infinity", b'{"prompt": "Hi", "temperature": -Infinity}', "application/json", 400, None),
    ("temperature 1e400", b'{"prompt": "Hi", "temperature": 1e400}', "application/json", 400, None),
    ("a number of 5,000 digits", b'{"prompt": "Hi", "seed": ' + b"9" * 5000 + b"}", "application/json", 400, None),
]


def _row(content: Content, kind: str | None, status: int, code: str | None) -> Body:
    def body(target: ServerUnderTest) -> None:
        path = TEXT if target.has_completions else CHAT
        target.remember()
        sent = content if isinstance(content, bytes) else content()
        answer = target.http.post(path, content=sent, headers={"Content-Type": kind} if kind else {})
        expect_error(answer, status, code=code)
        target.unharmed()

    return body


for _name, _content, _kind, _status, _code in ROWS:
    add(Check(f"bodies: {_name} is {_status}", _row(_content, _kind, _status, _code)))
