"""Where in a JSON schema the cause of an error stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orcinus.text.json_schema.pointers import LISTS, ONE, ROOT, at, is_place, parts

MOST_TRIALS = 300
MOST_CHARACTERS = 2**21  # of all trials together
NAME = "whole"
UNSATISFIABLE = "Unsatisfiable"


def innermost_fault(schema: Mapping[str, Any], size: int, message: str, problem: Callable[[Any], str]) -> tuple[str, str]:
    """The place of the innermost schema that has a problem by itself, and its problem.

    `problem` says what is wrong with a schema, or ""; `message` is what it says of the whole one, of `size` characters. After
    300 trials the place is that of a schema around it.
    """
    whole, trials = _moved(schema), iter(range(min(MOST_TRIALS, MOST_CHARACTERS // max(1, size))))

    def fault(place: str) -> str:
        moved = problem({"$ref": f"#/$defs/{NAME}{place[1:]}", "$defs": {NAME: whole}})
        return moved.replace(f"/$defs/{NAME}", "")

    place, seen = ROOT, {ROOT}
    while True:
        found = dict[str, str]()
        for inner in _below(schema, place):
            if inner in seen:
                continue
            seen.add(inner)
            if next(trials, None) is None:
                return place, message
            if said := fault(inner):
                found[inner] = said
                if said == message:
                    break
        same = [inner for inner, said in found.items() if said == message]
        if not same and not (found and message.startswith(UNSATISFIABLE)):
            return place, message
        place = same[0] if same else next(iter(found))
        message = found[place]


def _below(root: Any, place: str) -> Iterator[str]:
    """Places of the schemas inside one, and of those that it refers to."""
    schema = at(root, place)
    if not isinstance(schema, Mapping):
        return
    if is_place(schema.get("$ref")) and at(root, schema["$ref"]) is not None:
        yield schema["$ref"]
    yield from (inner for inner, part in parts(schema, place) if isinstance(part, Mapping))


def _moved(schema: Any) -> Any:
    """The schema with references as they are from below `$defs`."""
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for name, value in schema.items():
        if name == "$ref" and is_place(value):
            found[name] = f"#/$defs/{NAME}{value[1:]}"
        elif isinstance(value, Mapping) and name not in ("enum", "const", "default", "examples", "example"):
            found[name] = {key: _moved(one) for key, one in value.items()} if name not in ONE else _moved(value)
        elif isinstance(value, list) and (name in LISTS or name == "items"):
            found[name] = [_moved(one) for one in value]
    return found
