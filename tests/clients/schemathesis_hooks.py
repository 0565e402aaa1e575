"""Answers are kept short, so that thousands of cases take minutes. Nothing else is changed: the cases are schemathesis' own."""

from __future__ import annotations

from typing import Any

import schemathesis

FEW = 4


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Give a request without a length a small one."""
    if isinstance(body, dict) and ("messages" in body or "prompt" in body):
        body.setdefault("max_tokens", FEW)
    return body
