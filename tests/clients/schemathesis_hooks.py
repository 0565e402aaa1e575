"""Answers are kept short, so that thousands of cases take minutes. Nothing else is changed: the cases are schemathesis' own."""

from __future__ import annotations

from typing import Any

import schemathesis

FEW = 4


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Give a request a small length, unless its length is what is wrong with it."""
    if isinstance(body, dict) and ("messages" in body or "prompt" in body):
        if body.get("max_tokens") is None:
            body["max_tokens"] = FEW
        for name in ("max_tokens", "max_completion_tokens", "min_tokens"):
            if type(body.get(name)) is int and body[name] > FEW:
                body[name] = FEW
    return body
