"""Messages for invalid bodies: every wrong field, no long values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import ValidationError

from orcinus.errors import shown
from orcinus.serve.errors import ApiError
from orcinus.serve.object_schema import IGNORED, IGNORED_INSIDE, Object

MOST_NAMED = 8
# pydantic's kinds of errors -> the requirement
RULES = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this object",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "string_pattern_mismatch": "must match {pattern}",
}
WITHOUT_VALUE = (
    "missing",
    "extra_forbidden",
    "string_too_short",
    "too_short",
    "string_too_long",
    "too_long",
    "media",
    "block",
    "zero",
    "too_many",
)
Location = list[int | str]


def invalid_fields(found: Mapping[str, Any], error: ValidationError, index_form: str = "[{}]") -> ApiError:
    """The error of a body that does not fit its schema.

    `param` is the deepest wrong place, the first of equals.
    """
    spelled = partial(spell, index_form=index_form)
    problems: dict[str, str] = {}
    located = [(_location(found, one), one) for one in error.errors(include_url=False)]
    located.sort(key=lambda pair: -len(pair[0]))  # stable
    wrong = {spelled(place[:-1]) for place, one in located if one["type"] != "missing"}
    for place, one in located:
        if one["type"] == "missing" and spelled(place[:-1]) in wrong:
            continue  # the object was meant to be another kind of object
        where, rule = spelled(place), _rule(one)
        if where in problems and rule.startswith("must be "):
            rule = f"{problems[where]} or {rule.removeprefix('must be ')}"
        problems[where] = rule
    values = {spelled(place): _value(one) for place, one in located}
    named = [f"{where}: {rule}{values[where]}" for where, rule in problems.items()]
    return ApiError(400, enumerated(named, "; "), param=next(iter(problems)), code="invalid_value")


def _rule(error: Any) -> str:
    template = RULES.get(error["type"])
    if template is None:
        text: str = error["msg"]
        return text
    limits = {name: f"{one:g}" if isinstance(one, float) else one for name, one in error.get("ctx", {}).items()}
    return template.format(**limits)


def _value(error: Any) -> str:
    """The given value, where that helps."""
    if error["type"] in WITHOUT_VALUE:
        return ""
    return f", not {type_name(error['input'])}"


def type_name(value: Any) -> str:
    """A JSON value in words: its kind, or a short value.

    Numbers and strings stand for themselves.
    """
    kinds = {list: "a list", dict: "an object", type(None): "null", bool: "true" if value is True else "false"}
    return kinds.get(type(value)) or shown(value)


def _location(found: Any, error: Any) -> Location:
    """The place of an error in the body.

    Tags of unions lead nowhere in it and are left out; they have a blank, so none is the name of a field.
    """
    location: Location = []
    for part in error["loc"]:
        inside = (isinstance(found, dict) and part in found) or (isinstance(found, list) and isinstance(part, int))
        if inside:
            found = found[part]
        if inside or (error["type"] == "missing" and part == error["loc"][-1]):
            location.append(part)
    return location


def spell(parts: Sequence[int | str], index_form: str = "[{}]") -> str:
    """A place in a body: `messages[2].content`. Long names are cut."""
    spelled = ""
    for part in parts:
        spelled += index_form.format(part) if isinstance(part, int) else f".{_name(part)}" if spelled else _name(part)
    return spelled


def _name(name: str) -> str:
    return name if len(name) <= 64 else name[:61] + "..."


def enumerated(names: Sequence[str], between: str = ", ") -> str:
    """The first few, and the number of the others."""
    more = len(names) - MOST_NAMED
    return between.join(names[:MOST_NAMED]) + (f"{between}and {more} more" if more > 0 else "")


def check_fields(body: Object, *, strict: bool) -> list[str]:
    """The ignored fields of a body.

    Raises `ApiError` for fields that would change the answer. With `strict` those that are no field of OpenAI's API are refused
    as well.
    """
    refused: dict[str, list[str]] = {}  # reason -> fields
    ignored: dict[str, str] = {}  # without indices -> the first place
    unknown: list[str] = []
    for path, one in body.objects():
        given = one.model_extra or {}
        for name, value in given.items():
            where = path + _name(name)
            rule = one.unsupported.find(name)
            if rule is not None:
                if rule.changes_answer(name, given):
                    refused.setdefault(rule.instead, []).append(where)
            elif name not in (one.ignored or (IGNORED_INSIDE if path else IGNORED)):
                unknown.append(where)
                ignored.setdefault(f"{type(one).__name__}.{name}", where)
            elif value not in (None, []):
                ignored[f"{type(one).__name__}.{name}"] = where
    if refused:
        reasons = [f"{enumerated(names)}: not supported; {instead}" for instead, names in refused.items()]
        first = next(iter(refused.values()))[0]
        raise ApiError(400, enumerated(reasons, ". "), param=first, code="unsupported_parameter")
    if strict and unknown:
        message = f"unknown: {enumerated(unknown)}; this server refuses fields that are not in its API (--strict)"
        raise ApiError(400, message, param=unknown[0], code="unknown_parameter")
    return sorted(ignored.values())
