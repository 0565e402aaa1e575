"""Custom tools, whose input is one text, as functions with one argument."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

INPUT = "input"  # the only argument of the function that stands for a custom tool
OPENING = re.compile(r'\s*\{\s*"' + INPUT + r'"\s*:\s*"')
# Whole characters of a JSON string: an escape or a surrogate pair that is not complete is left for later.
CHARACTERS = re.compile(
    r'(?:[^"\\]|\\["\\/bfnrt]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*'
)
NOT_ENFORCED = "a Lark grammar is shown to the model and not enforced: check the input of every call"


def custom_parameters(regex: str | None = None) -> dict[str, Any]:
    """The parameters of the function that stands for a custom tool.

    A `regex`, which the whole input must match, is enforced as the pattern of a JSON string.
    """
    text = {"type": "string"} | ({} if regex is None else {"pattern": f"^(?:{regex})$"})
    return {"type": "object", "properties": {INPUT: text}, "required": [INPUT], "additionalProperties": False}


def custom_arguments(text: str) -> str:
    """The arguments of the function that stands for a custom tool."""
    return json.dumps({INPUT: text}, ensure_ascii=False)


@dataclass
class CustomInput:
    """The input of a custom tool, decoded while its arguments arrive."""

    arguments: str = ""
    text: str = ""
    _at: int | None = None  # where the next character begins; None before the opening quote

    def add(self, arguments: str) -> str:
        """Further input; "" while a character is incomplete."""
        self.arguments += arguments
        if self._at is None:
            opening = OPENING.match(self.arguments)
            if opening is None:
                return ""
            self._at = opening.end()
        found = CHARACTERS.match(self.arguments, self._at)
        assert found is not None
        self._at = found.end()
        new: str = json.loads(f'"{found[0]}"', strict=False)
        self.text += new
        return new

    def finish(self) -> str:
        """The rest of the input; arguments of another form are taken whole."""
        if self._at is not None:
            return ""
        try:
            found = json.loads(self.arguments)[INPUT]
        except (ValueError, LookupError, TypeError):
            found = None
        self.text = found if isinstance(found, str) else self.arguments
        return self.text
