"""Schemas of the names of an object's members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orcinus.text.json_schema.pointers import refused
from orcinus.text.json_schema.unenforced import FORMATS as KNOWN

HEX = "[0-9a-fA-F]"
FORMATS = {  # of names, as patterns
    "uuid": f"^{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}$",
    "date": "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$",  # dates that every month has
}
SAYING = ("enum", "const", "pattern", "minLength", "maxLength", "format")
COMBINING = ("anyOf", "oneOf", "allOf", "not", "if", "$ref")


def with_named_members(schema: dict[str, Any], place: str, resolved: Callable[[Any], Any]) -> dict[str, Any]:
    """An object whose `propertyNames` say which members it has, as declared members or patterns of names.

    Raises `RequestError` for names that cannot be enforced.
    """
    names = resolved(schema["propertyNames"])
    found = {name: value for name, value in schema.items() if name != "propertyNames"}
    if not isinstance(names, Mapping) or names.get("type", "string") != "string" or any(one in names for one in COMBINING):
        raise _refused(place)
    saying = [name for name in SAYING if name in names and (name != "format" or names[name] in KNOWN)]
    if not saying:
        return found
    others, declared = found.get("additionalProperties", True), found.get("properties", {})
    if "patternProperties" in found or not isinstance(declared, Mapping):
        raise _refused(place)
    if saying in (["enum"], ["const"]):
        listed = [names["const"]] if saying == ["const"] else names["enum"]
        if not isinstance(listed, list):
            raise _refused(place)
        members = {name: declared.get(name, others) for name in listed if isinstance(name, str)}
        return {**found, "properties": members, "additionalProperties": False}
    pattern = _pattern(names, saying)
    if pattern is None or declared:
        raise _refused(place)
    return {**found, "patternProperties": {pattern: others}, "additionalProperties": False}


def _pattern(names: Mapping[str, Any], saying: list[str]) -> str | None:
    """A pattern that all names have and no others; None if no single one says it."""
    if saying == ["pattern"] and isinstance(names["pattern"], str):
        return str(names["pattern"])
    if saying == ["format"]:
        return FORMATS.get(names["format"])
    if set(saying) <= {"minLength", "maxLength"}:
        least, most = names.get("minLength", 0), names.get("maxLength", "")
        return f"^[\\s\\S]{{{least},{most}}}$" if isinstance(least, int) and isinstance(most, int | str) else None
    return None


def _refused(place: str) -> Exception:
    reason = "say `properties`, or one of enum, pattern and lengths for the names of all members"
    return refused(place, f"'propertyNames' cannot be enforced here: {reason}")
