"""JSON schemas as their authors mean them: declared members alone, and no keyword that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# A schema with one of these may not see all members that its objects may have.
COMBINED = (
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if"),
    *("patternProperties", "propertyNames", "dependentSchemas", "unevaluatedProperties"),
)
MEMBERS = ("properties", "required", "additionalProperties", *COMBINED)  # of a schema that may speak of an object's members
ONE, LISTS = ("items", "additionalProperties", "contains"), ("prefixItems", "anyOf", "oneOf", "allOf")
NAMED = ("properties", "patternProperties", "$defs", "definitions")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
ANY_NAME: tuple[Any, ...] = (True, {}, {"type": "string"})


def closed_schema(schema: Any) -> Any:
    """The schema with `additionalProperties: false` wherever an object declares its members.

    JSON Schema allows undeclared members. A model that writes them has misunderstood the schema, and a small one may never
    stop. `additionalProperties: true` allows them again. If objects are composed of several parts, as by `allOf`, none is
    closed: a closed part would forbid the members of the others. Formats that cannot be enforced are annotations, as the
    standard has it; OpenAPI's `nullable` allows null. Raises `RecursionError`.
    """
    return _rewritten(schema, close=not _composes(schema))


def _composes(schema: Any) -> bool:
    """Whether several schemas describe the members of one object."""
    if not isinstance(schema, Mapping):
        return False
    parts = schema.get("allOf")
    speaking = (
        [part for part in parts if isinstance(part, Mapping) and any(name in part for name in MEMBERS)]
        if isinstance(parts, list)
        else []
    )
    beside = "properties" in schema and any(name in schema for name in ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if"))
    return len(speaking) > 1 or beside or any(_composes(part) for part in _parts(schema))


def _parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas inside a schema."""
    for name in ONE:
        yield schema.get(name)
    for name in LISTS:
        found = schema.get(name)
        yield from found if isinstance(found, list) else ()
    for name in NAMED:
        found = schema.get(name)
        yield from found.values() if isinstance(found, Mapping) else ()


def _rewritten(schema: Any, *, close: bool) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for name in ONE:
        if name in found:
            found[name] = _rewritten(found[name], close=close)
    for name in LISTS:
        if isinstance(found.get(name), list):
            found[name] = [_rewritten(one, close=close) for one in found[name]]
    for name in NAMED:
        if isinstance(found.get(name), Mapping):
            found[name] = {key: _rewritten(one, close=close) for key, one in found[name].items()}
    if isinstance(found.get("format"), str) and found["format"] not in FORMATS:
        del found["format"]
    if found.get("propertyNames") in ANY_NAME:
        del found["propertyNames"]
    if close and _declares_all(found):
        found["additionalProperties"] = False
    return {"anyOf": [found, {"type": "null"}]} if found.pop("nullable", None) is True else found


def _declares_all(schema: Mapping[str, Any]) -> bool:
    """Whether the schema declares members, and says nothing of others."""
    declared, required = schema.get("properties"), schema.get("required", [])
    open_ = "additionalProperties" in schema or any(name in schema for name in COMBINED)
    if open_ or not isinstance(declared, Mapping) or not declared or not isinstance(required, list):
        return False
    return all(isinstance(name, str) and name in declared for name in required)
