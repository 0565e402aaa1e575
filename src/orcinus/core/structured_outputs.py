"""Structured output: the form that an answer must have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

from orcinus.errors import RequestError, shown

KINDS = ("json", "regex", "choice", "grammar", "json_object", "llguidance")
MOST_CHOICES = 10_000


class JsonSpacing(TypedDict):
    """llguidance's options for the white space of JSON."""

    whitespace_flexible: bool
    item_separator: str
    key_separator: str


# As `json.dumps` writes it, and so templates write calls in the history. A model that is free to write white space may never
# stop. A schema's own "x-guidance" overrides it.
JSON_SPACING: JsonSpacing = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredOutputs:
    """The form of an answer: exactly one of these. Names are vLLM's.

    Raises `RequestError` naming the field.
    """

    json: str | Mapping[str, Any] | bool | None = None  # a JSON schema, or its text
    regex: str | None = None  # a regular expression, in the syntax of Rust's regex crate, for the whole answer
    choice: tuple[str, ...] | None = None  # or a list; the answer is one of these
    grammar: str | None = None  # a grammar, in Lark's notation or llama.cpp's GBNF
    json_object: bool = False  # any JSON object
    llguidance: str | None = None  # a grammar in llguidance's own form; tool calls use it

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # normalise once: a schema is JSON text, choices are a tuple
        if self.json is not None:
            set_field(self, "json", _schema_text(self.json))
        if self.choice is not None:
            set_field(self, "choice", _choices(self.choice))
        for name in ("regex", "grammar", "llguidance"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise RequestError(f"{name} must be a string that is not empty, not {shown(value)}", name)
        if not isinstance(self.json_object, bool):
            raise RequestError(f"json_object must be True or False, not {shown(self.json_object)}", "json_object")
        given = [name for name in KINDS if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            found = f"{' and '.join(given)} are given" if given else "nothing is given"
            raise RequestError(f"structured output needs exactly one of {', '.join(KINDS[:-1])}; {found}", KINDS[0])

    @property
    def kind(self) -> str:
        """Name of the field that is set."""
        return next(name for name in KINDS if getattr(self, name) not in (None, False))


class ThinkingMarks(NamedTuple):
    """Token ids around a model's reasoning, and whether the prompt has opened it."""

    begin: int
    end: int
    open: bool  # False: the answer may begin with reasoning


def _schema_text(schema: object) -> str:
    """A JSON schema as JSON text."""
    if isinstance(schema, Mapping | bool):
        try:
            return json.dumps(schema, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise RequestError("json must be a schema made of what JSON has", "json") from None
    if not isinstance(schema, str):
        hint = ": give its .model_json_schema()" if hasattr(schema, "model_json_schema") else ""
        raise RequestError(f"json must be a JSON schema or its text, not {shown(schema)}{hint}", "json")
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError):
        raise RequestError("json must be a JSON schema; this text is no JSON", "json") from None
    if not isinstance(parsed, dict | bool):
        raise RequestError(f"json must be a JSON schema, which is an object, not {shown(parsed)}", "json")
    return schema


def _choices(choices: object) -> tuple[str, ...]:
    if isinstance(choices, str | bytes | Mapping) or not isinstance(choices, Iterable):
        raise RequestError(f"choice must be a list of strings, not {shown(choices)}", "choice")
    found = tuple(choices)
    if not 1 <= len(found) <= MOST_CHOICES or not all(isinstance(one, str) and one for one in found):
        raise RequestError(f"choice must be a list of 1 to {MOST_CHOICES} strings, none of them empty", "choice")
    return found
