"""JSON text of strings and numbers."""

from __future__ import annotations

import json
import re

SURROGATE = re.compile("[\ud800-\udfff]")


def json_string(text: str) -> str:
    """Text as a JSON string."""
    return json.dumps(text, ensure_ascii=SURROGATE.search(text) is not None)


def in_string(text: str) -> str:
    """Text as a part of a JSON string."""
    return json_string(text)[1:-1]
