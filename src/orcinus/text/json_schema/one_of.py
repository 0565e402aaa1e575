"""Whether at most one of a `oneOf`'s parts can be true of an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

from orcinus.text.json_schema.closed_schema import declares_all
from orcinus.text.json_schema.unique_items import few_values

TYPES = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
DEEPEST = 8  # members of members that are compared
MOST_PARTS = 200
MOST_COMPARISONS = 50_000  # of schemas, for one `oneOf`
Resolve = Callable[[Any], Any]


def exclusive(schema: Mapping[str, Any], resolved: Resolve, *, close: bool) -> list[str | None] | None:
    """For each part of a schema's `oneOf`, the member that it has to have besides those that it requires.

    None: an answer may have several parts. `close`: objects have the members alone that they declare.
    """
    if len(schema["oneOf"]) > MOST_PARTS:
        return None
    above = {"type": schema["type"]} if "type" in schema else {}
    found = [resolved(part) for part in schema["oneOf"]]
    schemas = [{**above, **part} if isinstance(part, Mapping) else part for part in found]
    tag = _tag(schemas, schema.get("discriminator"), resolved)
    tags = [None if tag is None or not _declares(schema, tag) or tag in _required(schema) else tag for schema in schemas]
    tagged = [
        schema if name is None else {**schema, "required": [*_required(schema), name]}
        for schema, name in zip(schemas, tags, strict=True)
    ]
    proof = _Proof(resolved, close)
    pairs = permutations(range(len(schemas)), 2)  # what is written for one must not have the other as it was sent
    return tags if all(proof.excludes(tagged[one], schemas[other]) for one, other in pairs) else None


def _tag(schemas: Sequence[Any], discriminator: Any, resolved: Resolve) -> str | None:
    """A member of all objects, with constants of its own in each."""
    if isinstance(discriminator, Mapping) and isinstance(name := discriminator.get("propertyName"), str):
        return name
    objects = [schema for schema in schemas if isinstance(schema, Mapping) and isinstance(schema.get("properties"), Mapping)]
    for name in objects[0]["properties"] if objects else ():
        each = [few_values(resolved(schema["properties"].get(name))) for schema in objects]
        known = [values for values in each if values is not None]
        if len(known) == len(each) and len({repr(one) for values in known for one in values}) == sum(map(len, known)):
            return str(name)
    return None


def _declares(schema: Any, name: str) -> bool:
    declared = schema.get("properties") if isinstance(schema, Mapping) else None
    return isinstance(declared, Mapping) and name in declared


def _required(schema: Any) -> list[str]:
    found = schema.get("required") if isinstance(schema, Mapping) else None
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


class _Proof:
    """Shows that no answer written for one schema has another one, too."""

    def __init__(self, resolved: Resolve, close: bool) -> None:
        self._resolved = resolved
        self._close = close
        self._left = MOST_COMPARISONS

    def excludes(self, one: Any, other: Any, depth: int = 0) -> bool:
        """Whether no answer written for `one` has `other`."""
        self._left -= 1
        if self._left < 0:
            return False
        one, other = self._resolved(one), self._resolved(other)
        if one is False or other is False:
            return True
        if depth > DEEPEST or not isinstance(one, Mapping) or not isinstance(other, Mapping):
            return False
        for keyword in ("anyOf", "oneOf"):
            if isinstance(inner := one.get(keyword), list) and all(self.excludes(part, other, depth + 1) for part in inner):
                return True
            if isinstance(inner := other.get(keyword), list) and all(self.excludes(one, part, depth + 1) for part in inner):
                return True
        if not _types(one) & _types(other):
            return True
        mine, theirs = few_values(one), few_values(other)
        if mine is not None and theirs is not None:
            return not {_key(value) for value in mine} & {_key(value) for value in theirs}
        return _types(one) == {"object"} and self._members_exclude(one, other, depth)

    def _members_exclude(self, one: Mapping[str, Any], other: Mapping[str, Any], depth: int) -> bool:
        """The same of objects, by their members."""
        mine, theirs = (schema.get("properties") for schema in (one, other))
        if not isinstance(mine, Mapping):
            return False
        closed = one.get("additionalProperties") is False or (self._close and declares_all(one))
        if closed and "patternProperties" not in one and any(name not in mine for name in _required(other)):
            return True
        return isinstance(theirs, Mapping) and any(
            name in theirs and self.excludes(mine[name], theirs[name], depth + 1) for name in _required(one) if name in mine
        )


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    """JSON types that a schema allows; a number is an integer, too."""
    named, values = schema.get("type"), few_values(schema)
    found = frozenset([named] if isinstance(named, str) else named) & TYPES if isinstance(named, str | list) else TYPES
    found |= {"integer"} if "number" in found else found
    if values is None:
        return found
    kinds = frozenset(map(_type, values))
    return found & (kinds | {"integer", "number"} if kinds & {"integer", "number"} else kinds)


def _type(value: Any) -> str:
    names = {bool: "boolean", str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _key(value: Any) -> str:
    """Text that is the same for equal JSON values."""
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
