"""JSON schemas whose objects have the members that they declare, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# A schema with one of these may not see all members that its objects may have.
COMBINED = (
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if"),
    *("patternProperties", "propertyNames", "dependentSchemas", "unevaluatedProperties"),
)
ONE, LISTS = ("items", "additionalProperties", "contains"), ("prefixItems", "anyOf", "oneOf", "allOf")
NAMED = ("properties", "$defs", "definitions")


def closed_schema(schema: Any) -> Any:
    """The schema with `additionalProperties: false` wherever an object declares its members.

    JSON Schema allows undeclared members. A model that writes them has misunderstood the schema, and a small one may never
    stop. `additionalProperties: true` allows them again. A schema that composes objects of several parts, as `allOf` does, is
    returned as it is: a closed part would forbid the members of the others. Raises `RecursionError`.
    """
    return schema if _composes(schema) else _closed(schema)


def _composes(schema: Any) -> bool:
    """Whether several schemas may describe one object's members."""
    if not isinstance(schema, Mapping):
        return False
    parts = schema.get("allOf")
    several = isinstance(parts, list) and len(parts) > 1
    beside = "properties" in schema and any(name in schema for name in ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if"))
    return several or beside or any(_composes(part) for part in _parts(schema))


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


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for name in ONE:
        if name in found:
            found[name] = _closed(found[name])
    for name in LISTS:
        if isinstance(found.get(name), list):
            found[name] = [_closed(one) for one in found[name]]
    for name in NAMED:
        if isinstance(found.get(name), Mapping):
            found[name] = {key: _closed(one) for key, one in found[name].items()}
    open_ = "additionalProperties" in found or any(name in found for name in COMBINED)
    if not open_ and _declares_required(found):
        found["additionalProperties"] = False
    return found


def _declares_required(schema: Mapping[str, Any]) -> bool:
    """Whether a schema declares members, among them all that it requires."""
    declared, required = schema.get("properties"), schema.get("required") or []
    if not (isinstance(declared, Mapping) and declared and isinstance(required, list)):
        return False
    return all(isinstance(name, str) and name in declared for name in required)
