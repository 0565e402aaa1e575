"""Keywords of JSON Schema that a grammar cannot enforce."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orcinus.text.json_schema.pointers import refused

FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
# What keywords speak of: they say nothing of values of other types.
TYPES = {
    **dict.fromkeys(("uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems"), "array"),
    **dict.fromkeys(("propertyNames", "dependentRequired", "dependentSchemas", "dependencies"), "object"),
    "unevaluatedProperties": "object",
}
Schema = Mapping[str, Any]


def forbids(schema: Any) -> bool:
    """Whether a schema says anything."""
    return schema is not True and schema != {}


# Of keywords that llguidance does not know: whether one forbids anything, from its value and its schema.
FORCE: dict[str, Callable[[Any, Schema], bool]] = {
    "not": lambda value, _: value is not False,
    "if": lambda _, schema: forbids(schema.get("then", True)) or forbids(schema.get("else", True)),
    "then": lambda *_: False,  # the others are said of `if`
    "else": lambda *_: False,
    "uniqueItems": lambda value, schema: value is not False and not _one_item(schema),
    "contains": lambda _, schema: schema.get("minContains", 1) != 0 or "maxContains" in schema,
    "minContains": lambda *_: False,  # said of `contains`
    "maxContains": lambda *_: False,
    "unevaluatedItems": lambda value, _: forbids(value),
    "unevaluatedProperties": lambda value, _: forbids(value),
    "propertyNames": lambda value, _: forbids(value),
    "dependentRequired": lambda value, _: not isinstance(value, Mapping) or any(value.values()),
    "dependentSchemas": lambda value, _: not isinstance(value, Mapping) or any(map(forbids, value.values())),
    "dependencies": lambda value, _: value != {},
    "$dynamicRef": lambda *_: True,
    "$recursiveRef": lambda *_: True,
    "$dynamicAnchor": lambda *_: False,  # has none without `$dynamicRef`
    "$recursiveAnchor": lambda *_: False,
    "format": lambda value, _: not isinstance(value, str) or value in FORMATS,
}
ENFORCED = ("uniqueItems", "propertyNames", "format")  # at least in some schemas
COMPOSING = ("$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "additionalProperties")


def unforced(schema: Schema, place: str) -> dict[str, Any]:
    """The schema without unknown keywords that forbid nothing. Raises `RequestError` for the first that does."""
    found = dict[str, Any]()
    for name, value in schema.items():
        if name not in FORCE:
            found[name] = value
        elif name == "unevaluatedProperties" and not any(other in schema for other in COMPOSING):
            found["additionalProperties"] = value
        elif (name not in TYPES or allows(schema, TYPES[name])) and FORCE[name](value, schema):
            if name not in ENFORCED:
                raise refused(place, f"{name!r} cannot be enforced: remove it, or check the answer yourself")
            found[name] = value
    return found


def allows(schema: Schema, kind: str) -> bool:
    """Whether the schema's type allows values of a type."""
    types = schema.get("type")
    return types is None or types == kind or (isinstance(types, list) and kind in types)


def _one_item(schema: Schema) -> bool:
    most = schema.get("maxItems")
    return isinstance(most, int) and most <= 1
