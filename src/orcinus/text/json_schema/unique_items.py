"""Arrays of different items, if these have few values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations
from math import perm
from typing import Any

from orcinus.text.json_schema.pointers import refused

MOST = 2000  # arrangements: of up to six values, all of them
KEPT = ("title", "description", "default")
Resolve = Callable[[Any], Any]


def with_arrangements(schema: dict[str, Any], place: str, resolved: Resolve) -> dict[str, Any]:
    """An array with `uniqueItems` as an enumeration of all arrays that it allows.

    Raises `RequestError` if there are too many.
    """
    values = few_values(resolved(schema.get("items")))
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    types = schema.get("type", "array")
    plain = not {"prefixItems", "anyOf", "oneOf", "allOf", "$ref", "enum", "const"} & set(schema)
    if values is not None and plain and types == "array" and isinstance(least, int) and isinstance(most, int | None):
        lengths = range(least, min(len(values), len(values) if most is None else most) + 1)
        if sum(perm(len(values), length) for length in lengths) <= MOST:
            found = [list(one) for length in lengths for one in permutations(values, length)]
            return {"enum": found, **{name: schema[name] for name in KEPT if name in schema}}
    reason = "remove it, or check the answer yourself; it is enforced if the items are one of at most six constants"
    raise refused(place, f"'uniqueItems' cannot be enforced: {reason}")


def few_values(schema: Any) -> list[Any] | None:
    """The values that a schema enumerates; None if it does not."""
    if not isinstance(schema, Mapping):
        return None
    if "const" in schema:
        return [schema["const"]]
    if isinstance(values := schema.get("enum"), list):
        return values
    return [False, True] if schema.get("type") == "boolean" else [None] if schema.get("type") == "null" else None
