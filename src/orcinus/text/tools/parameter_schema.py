"""Parameters of tools, which turn values written as text into JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from orcinus.text.json_schema.pointers import DEFINITIONS, LISTS, NAMED, ONE
from orcinus.text.tools.json_text import json_string
from orcinus.text.tools.python_literal import python_json
from orcinus.text.tools.tool_call import Tool

ALL = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
DEEPEST = 16  # references followed from one to the next
WORDS = {"True": "true", "False": "false", "None": "null"}  # Python's words, which templates also write


class ParameterSchema:
    """The arguments that a tool takes, by name."""

    def __init__(self, tool: Tool | None) -> None:
        self.root: Mapping[str, Any] = (tool.parameters if tool else None) or {}
        self._types: dict[str, frozenset[str]] = {}  # of references
        properties = self.root.get("properties")
        declared = properties if isinstance(properties, Mapping) else {}
        self.properties: Mapping[str, Any] = {name: one for name, one in declared.items() if one is not False}
        required = self.root.get("required")
        self.required = (
            frozenset(name for name in required if isinstance(name, str)) if isinstance(required, list) else frozenset()
        )

    @property
    def definitions(self) -> dict[str, Any]:
        """The definitions that references in arguments mean."""
        named = (name for name in self.root if name not in (*ONE, *LISTS, *NAMED, "const", "default"))  # as `components`
        return {name: self.root[name] for name in named if name in DEFINITIONS or isinstance(self.root[name], Mapping)}

    def inner(self, name: str) -> dict[str, Any]:
        """The schema of one argument, with the definitions it needs."""
        schema = self.properties.get(name, True)
        if not isinstance(schema, Mapping):
            return {}
        return {**schema, **self.definitions}

    def types(self, name: str) -> frozenset[str]:
        """JSON types that an argument may have; all for an unknown one."""
        return self.types_of(self.properties.get(name, True))

    def resolved(self, schema: Any) -> Mapping[str, Any]:
        """A schema whose reference, or whose only `allOf`, is followed."""
        for _ in range(DEEPEST):
            if not isinstance(schema, Mapping):
                break
            if isinstance(reference := schema.get("$ref"), str):
                schema = self._resolve(reference)
            elif isinstance(inner := schema.get("allOf"), list) and len(inner) == 1:
                rest = {name: value for name, value in schema.items() if name != "allOf"}
                schema = {**rest, **inner[0]} if isinstance(inner[0], Mapping) else rest
            else:
                break
        return schema if isinstance(schema, Mapping) else {}

    def types_of(self, schema: Any) -> frozenset[str]:
        """JSON types that a schema allows; all if it does not say."""
        if not isinstance(schema, Mapping):
            return ALL
        found = ALL
        if isinstance(named := schema.get("type"), str | list):
            found &= _known([named] if isinstance(named, str) else named)
        if "const" in schema:
            found &= _known([_type(schema["const"])])
        if isinstance(values := schema.get("enum"), list):
            found &= _known(map(_type, values))
        if isinstance(reference := schema.get("$ref"), str):
            found &= self._types_of_reference(reference)
        for keyword in ("anyOf", "oneOf"):
            if isinstance(inner := schema.get(keyword), list):
                found &= frozenset[str]().union(*map(self.types_of, inner))
        if isinstance(inner := schema.get("allOf"), list):
            found = found.intersection(*map(self.types_of, inner))
        return found or ALL

    def _types_of_reference(self, reference: str) -> frozenset[str]:
        """The same of a reference; a circle of references allows all."""
        if reference not in self._types:
            self._types[reference] = ALL
            self._types[reference] = self.types_of(self._resolve(reference))
        return self._types[reference]

    def _resolve(self, reference: str) -> Any:
        """The schema that a `#/…` reference means; None if there is none."""
        found: Any = self.root
        for part in reference.removeprefix("#").split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            found = found.get(part) if isinstance(found, Mapping) else None
        return found if reference.startswith("#") else None


def _known(types: Iterable[Any]) -> frozenset[str]:
    found = {one for one in types if isinstance(one, str)} & ALL
    return frozenset(found | {"integer"} if "number" in found else found)


def _type(value: Any) -> str:
    """The JSON type of a value."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    names = {str: "string", int: "integer", list: "array", dict: "object", type(None): "null"}
    return names.get(type(value), "")


def json_value(text: str, types: frozenset[str]) -> str:
    """Text as JSON of one of these types, else a string.

    A string that looks like a number is a number only if one is allowed.
    """
    stripped = text.strip()
    written = WORDS.get(stripped, stripped.lower() if stripped.lower() in ("true", "false", "null") else stripped)
    for read in (_from_json, _from_python):
        found = read(written)
        if found is not None and found[0] in types and (found[0] != "string" or types == ALL):
            return found[1]
    return json_string(text)


def _from_json(text: str) -> tuple[str, str] | None:
    """The type and text of a JSON value."""
    try:
        return _type(json.loads(text, parse_constant=_refuse, parse_int=_integer)), text
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int:
    """A whole number of that sign; its value is not needed."""
    return int(digits[:20])


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _from_python(text: str) -> tuple[str, str] | None:
    """A list or dictionary in Python's notation, as templates write them."""
    found = python_json(text) if text.startswith(("[", "{")) else None
    return None if found is None else ("array" if text.startswith("[") else "object", found)
