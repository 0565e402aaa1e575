"""Checks of an error's shape, and of answers that may be one."""

from __future__ import annotations

import json
import re

import httpx

from orcinus.conformance.target import CHAT, Json, ServerUnderTest
from orcinus.conformance.verdict import Failed, expect, expect_equal, shown

TYPES = {
    400: {"invalid_request_error"},
    401: {"authentication_error", "invalid_request_error"},
    403: {"authentication_error", "invalid_request_error"},
    404: {"not_found_error", "invalid_request_error"},
    429: {"rate_limit_error"},
}
LEAK = re.compile(r"0x[0-9a-f]{6,}|Traceback|pydantic|site-packages|\.py\b|tensor|shape '?\[|Error\(|<class")


def error_in(content: bytes, status: int) -> Json:
    """The error object in a body.

    Raises `Failed` unless it has OpenAI's form and reveals no internals of the server.
    """
    try:
        found = json.loads(content)["error"]
        message, kind = found["message"], found["type"]
    except (ValueError, KeyError, TypeError):
        raise Failed(f"the error has not OpenAI's form: {shown(content)}") from None
    missing = {"param", "code"} - set(found)
    expect(not missing, f"the error has no {' and no '.join(sorted(missing))}")
    expect(isinstance(message, str) and message, "the error has no message")
    expect(not LEAK.search(message), f"the message shows the inside: {shown(message)}")
    allowed = TYPES.get(status, {"invalid_request_error"} if status < 500 else {"server_error"})
    expect(kind in allowed, f"the error's type is {shown(kind)}")
    checked: Json = found
    return checked


def expect_error(answer: httpx.Response, status: int | set[int], param: str | None = None, code: str | None = None) -> Json:
    """An answer's error, after checking status, field and code.

    Raises `Failed` if one differs. The error may also name a field inside `param`.
    """
    allowed = {status} if isinstance(status, int) else status
    wanted = " or ".join(map(str, sorted(allowed)))
    expect(answer.status_code in allowed, f"status {answer.status_code}, not {wanted}")
    found = error_in(answer.content, answer.status_code)
    if param is not None:
        named = str(found["param"])
        within = named == param or named.startswith((f"{param}.", f"{param}["))
        expect(within, f"param is {shown(found['param'])}, not {shown(param)}")
    if code is not None:
        expect_equal(found["code"], code, "code")
    return found


def refused_or_bounded(body: Json, target: ServerUnderTest) -> None:
    """Raise `Failed` unless a chat is refused, or answered within 8 tokens.

    The server must go on as before.
    """
    target.remember()
    answer = target.post(CHAT, {"max_tokens": 8} | body)
    if answer.status_code == 200:
        expect(answer.json()["usage"]["completion_tokens"] <= 8, "more tokens than max_tokens")
    else:
        expect_error(answer, {400, 413})
    target.unharmed()
