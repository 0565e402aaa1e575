"""Places in a JSON schema, as JSON pointers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from orcinus.errors import RequestError

ROOT = "#"
LONGEST = 160  # characters of a place that a message shows
# Keywords that hold a schema, a list of schemas, and schemas by name.
ONE = ("items", "additionalItems", "additionalProperties")
LISTS = ("prefixItems", "anyOf", "oneOf", "allOf")
NAMED = ("properties", "patternProperties")
DEFINITIONS = ("$defs", "definitions")


def below(place: str, *names: object) -> str:
    """The place of a member, or of an item, below a place."""
    return "/".join((place, *(str(name).replace("~", "~0").replace("/", "~1") for name in names)))


def steps(place: str) -> list[str]:
    """The names on the way to a place, from the root."""
    return [name.replace("~1", "/").replace("~0", "~") for name in unquote(place).split("/")[1:]]


def at(root: Any, place: str) -> Any:
    """What stands at a place; None if nothing does."""
    found = root
    for name in steps(place):
        if isinstance(found, list):
            found = found[int(name)] if name.isdigit() and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def is_place(reference: object) -> bool:
    """Whether a `$ref` is a pointer into its own schema."""
    return isinstance(reference, str) and (reference == ROOT or reference.startswith("#/"))


def parts(schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    """The schemas inside a schema with their places, in its order; definitions are no parts."""
    for name, value in schema.items():
        if name in NAMED and isinstance(value, Mapping):
            yield from ((below(place, name, key), one) for key, one in value.items())
        elif name in (*LISTS, "items") and isinstance(value, list):
            yield from ((below(place, name, index), one) for index, one in enumerate(value))
        elif name in ONE:
            yield below(place, name), value


def refused(place: str, reason: str) -> RequestError:
    """The error about what stands at a place."""
    shown = place if len(place) <= LONGEST else f"...{place[-LONGEST:]}"
    return RequestError(f"{shown}: {reason}", "json")
