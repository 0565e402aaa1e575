"""Which objects of a JSON schema have the members that it declares, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orcinus.text.json_schema.pointers import DEFINITIONS, parts

# A schema with one of these may not see all members that its objects may have.
COMBINED = (
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if"),
    *("patternProperties", "propertyNames", "dependentSchemas", "unevaluatedProperties"),
)
OPEN = (
    "additionalProperties",
    *(name for name in COMBINED if name != "patternProperties"),
)  # beside members: there may be others
MEMBERS = ("properties", "required", "additionalProperties", *COMBINED)  # of a schema that may speak of an object's members


def composes(schema: Any) -> bool:
    """Whether several schemas describe the members of one object."""
    if not isinstance(schema, Mapping):
        return False
    together = schema.get("allOf")
    speaking = (
        [part for part in together if isinstance(part, Mapping) and any(name in part for name in MEMBERS)]
        if isinstance(together, list)
        else []
    )
    beside = "properties" in schema and any(name in schema for name in ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if"))
    return len(speaking) > 1 or beside or any(composes(part) for part in _all_parts(schema))


def _all_parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas inside a schema, with its definitions."""
    yield from (part for _, part in parts(schema, ""))
    for name in DEFINITIONS:
        found = schema.get(name)
        yield from found.values() if isinstance(found, Mapping) else ()


def declares_all(schema: Mapping[str, Any]) -> bool:
    """Whether the schema declares members, by name or by pattern, and says nothing of others."""
    declared, patterns, required = (schema.get(name) or {} for name in ("properties", "patternProperties", "required"))
    if any(name in schema for name in OPEN) or not isinstance(declared, Mapping) or not isinstance(patterns, Mapping):
        return False
    if not declared and not patterns:
        return False
    return not required or (isinstance(required, list) and all(isinstance(name, str) and name in declared for name in required))
