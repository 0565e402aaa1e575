"""Answers are kept short, so that thousands of cases take minutes. Nothing else is changed: the cases are schemathesis' own."""

from __future__ import annotations

from typing import Any

import schemathesis

FEW = 4
LENGTHS = {  # fields for the length of an answer; the first is set in every body
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens", "min_tokens"),
    "/v1/completions": ("max_tokens", "min_tokens"),
    "/v1/responses": ("max_output_tokens",),
    "/v1/messages": ("max_tokens",),
}
REQUIRED = {"/v1/messages": ("max_tokens",)}  # here its absence is what is wrong


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Give a request a small length, unless its length is what is wrong with it."""
    if isinstance(body, dict) and type(body.get("min_iteration_seconds")) in (int, float) and body["min_iteration_seconds"] > 0:
        body["min_iteration_seconds"] = 0  # slow motion would last for all cases after it
    names = LENGTHS.get(context.operation.path, ()) if context.operation is not None else ()
    if not names or not isinstance(body, dict):
        return body
    if body.get(names[0]) is None and names[0] not in REQUIRED.get(context.operation.path, ()):
        body[names[0]] = FEW
    for name in names:
        if type(body.get(name)) is int and body[name] > FEW:
            body[name] = FEW
    return body
