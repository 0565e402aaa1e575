"""Regular expressions of strings, without the look-ahead that grammars do not know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ATOM = r"(?:\\[^a-zA-Z0-9]|\\[dswDSW]|\[(?:\\.|[^\]\\])+\]|[^\\^$.|?*+()\[\]{}])"  # one character, or a class
LITERAL = r"(?:\\[^a-zA-Z0-9]|[^\\^$.|?*+()\[\]{}])"
ALL_OF_A_CLASS = re.compile(rf"\^?({ATOM})([*+])\$")
FIRST = re.compile(rf"\^?({ATOM})")
INSIDE = re.compile(rf"\^?\.\*({LITERAL})({LITERAL})?")

YEAR = "(000[1-9]|00[1-9][0-9]|0[1-9][0-9][0-9]|[1-9][0-9]{3})"
FOURTH = "(0[48]|[2468][048]|[13579][26])"
DAY = f"({YEAR}-(0[13-9]|1[0-2])-|{YEAR}-02-([01]|2[0-8])|([0-9]{{2}}{FOURTH}|{FOURTH}00)-02-29)"
# What libraries of dates read: no year 0, no leap second, the 29th of February in leap years, no number of more than 6 digits.
USUAL = {
    "date": f"^{DAY}",
    "time": "^[0-9]{2}:[0-9]{2}:[0-5]",
    "date-time": f"^({DAY}.*[Tt ])[0-9]{{2}}:[0-9]{{2}}:[0-5]",
    "duration": "^([0-9]{0,6}[^0-9])*$",
}


def with_usual_format(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with dates, times and durations that most libraries can read."""
    pattern = USUAL.get(str(schema.get("format")))
    return schema if pattern is None else {**schema, "allOf": [*schema.get("allOf", ()), {"pattern": pattern}]}


def with_plain_pattern(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with look-ahead at the beginning of its pattern as patterns of their own.

    `^(?=.*[0-9])[a-z0-9]+$` asks for the two patterns `^(?:.*[0-9])` and `^[a-z0-9]+$`. What cannot be written so stays as it
    is.
    """
    found = _plain(schema["pattern"])
    if found is None:
        return schema
    others = [name for name in schema if name not in ("pattern", "allOf")]
    return {name: schema[name] for name in others} | {"allOf": [*schema.get("allOf", ()), *({"pattern": one} for one in found)]}


def patterns_of(schema: Mapping[str, Any]) -> list[str]:
    """All patterns that a string must have."""
    inner = schema.get("allOf")
    parts = [schema, *(inner if isinstance(inner, list) else ())]
    found = [part.get("pattern") for part in parts if isinstance(part, Mapping)]
    return [one for one in found if isinstance(one, str)]


def _plain(pattern: str) -> list[str] | None:
    """Patterns without look-ahead that say the same; None if there are none or no need of any."""
    rest, found = pattern.removeprefix("^"), list[str]()
    while rest.startswith(("(?=", "(?!")):
        end = _end_of_group(rest)
        if end is None:
            return None
        body, negative = rest[3:end], rest.startswith("(?!")
        one = _forbidden(body) if negative else f"^(?:{body.removeprefix('^')})"
        if one is None or _looks_around(body):
            return None
        found.append(one)
        rest = rest[end + 1 :]
    if not found or not pattern.startswith("^") or _looks_around(rest) or _alternatives(rest):
        return None
    return [*found, f"^{rest}"]


def _forbidden(body: str) -> str | None:
    """The pattern of texts at whose beginning `body` is not found."""
    if whole := ALL_OF_A_CLASS.fullmatch(body):
        other = _others(whole[1])
        return other if whole[2] == "*" else f"^$|{other}"
    if first := FIRST.fullmatch(body):
        return f"^(?:{_others(first[1])}[\\s\\S]*)?$"
    if inside := INSIDE.fullmatch(body):
        one, next_ = inside[1], inside[2]
        if next_ is None:
            return f"^[^{_member(one)}]*$"
        if one == next_:
            return f"^(?:[^{_member(one)}]|{one}[^{_member(one)}])*{one}?$"
        return f"^(?:[^{_member(one)}]|{one}+[^{_member(one)}{_member(next_)}])*{one}*$"
    return None


def _others(atom: str) -> str:
    """The class of characters that an atom is not."""
    if atom.startswith("[^"):
        return f"[{atom[2:]}"
    return f"[^{atom[1:]}" if atom.startswith("[") else f"[^{_member(atom)}]"


def _member(literal: str) -> str:
    """A character as it is written in a class."""
    return rf"\{literal}" if literal in "-&~" else literal


def _looks_around(pattern: str) -> bool:
    return any(opening in pattern for opening in ("(?=", "(?!", "(?<=", "(?<!"))


def _scan(pattern: str) -> list[tuple[int, str, int]]:
    """Parentheses and bars outside classes: places, characters, depths."""
    found, depth, place = list[tuple[int, str, int]](), 0, 0
    while place < len(pattern):
        character = pattern[place]
        if character == "[":
            place = _end_of_class(pattern, place)
        elif character in "()|":
            depth -= character == ")"
            found.append((place, character, depth))
            depth += character == "("
        place += 2 if character == "\\" else 1
    return found


def _end_of_class(pattern: str, place: int) -> int:
    """The place of the bracket that closes a class."""
    place += 1
    while place < len(pattern) and pattern[place] != "]":
        place += 2 if pattern[place] == "\\" else 1
    return place


def _end_of_group(pattern: str) -> int | None:
    """The place of the parenthesis that closes the one at the beginning."""
    return next((place for place, character, depth in _scan(pattern) if character == ")" and depth == 0), None)


def _alternatives(pattern: str) -> bool:
    return any(character == "|" and depth == 0 for _, character, depth in _scan(pattern))
