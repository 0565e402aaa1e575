"""Values that fit a JSON Schema, for hypothesis: as much of it as the server's OpenAPI document uses, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
NOTES = {"title", "description", "default", "examples", "deprecated", "format"}
KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


class Schemas:
    """The schemas of a document, by name. An unknown keyword is a `NotImplementedError`: a rule must not go untried."""

    def __init__(self, named: Mapping[str, Schema]) -> None:
        self.named = named
        self._made: dict[str, st.SearchStrategy[Any]] = {}  # hypothesis takes long to make one

    def resolved(self, schema: Schema) -> Schema:
        """The schema itself, or the one that it refers to."""
        return self.named[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema

    def fits(self, schema: Schema, value: Any) -> bool:
        """Whether a value is valid."""
        schema = self.resolved(schema)
        return all(self._holds(word, rule, schema, value) for word, rule in schema.items() if word not in NOTES)

    def _holds(self, word: str, rule: Any, schema: Schema, value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        match word:
            case "type":
                return isinstance(value, KINDS[rule]) and (rule not in ("integer", "number") or not isinstance(value, bool))
            case "enum":
                return any(_same(value, one) for one in rule)
            case "const":
                return _same(value, rule)
            case "anyOf":
                return any(self.fits(one, value) for one in rule)
            case "oneOf":
                return sum(self.fits(one, value) for one in rule) == 1
            case "allOf":
                return all(self.fits(one, value) for one in rule)
            case "not":
                return not self.fits(rule, value)
            case "minimum":
                return not is_number or value >= rule
            case "maximum":
                return not is_number or value <= rule
            case "exclusiveMinimum":
                return not is_number or value > rule
            case "exclusiveMaximum":
                return not is_number or value < rule
            case "minLength" | "maxLength" | "pattern":
                return not isinstance(value, str) or _text_holds(word, rule, value)
            case "items" | "minItems" | "maxItems":
                return not isinstance(value, list) or self._list_holds(word, rule, value)
        return not isinstance(value, dict) or self._object_holds(word, rule, schema, value)

    def _list_holds(self, word: str, rule: Any, value: list[Any]) -> bool:
        if word == "items":
            return all(self.fits(rule, one) for one in value)
        return len(value) >= rule if word == "minItems" else len(value) <= rule

    def _object_holds(self, word: str, rule: Any, schema: Schema, value: dict[str, Any]) -> bool:
        match word:
            case "required":
                return set(rule) <= set(value)
            case "properties":
                return all(self.fits(one, value[name]) for name, one in rule.items() if name in value)
            case "patternProperties":
                return all(
                    self.fits(one, value[name]) for pattern, one in rule.items() for name in value if re.search(pattern, name)
                )
            case "propertyNames":
                return all(self.fits(rule, name) for name in value)
            case "maxProperties":
                return len(value) <= rule
            case "additionalProperties":
                patterns = schema.get("patternProperties", {})
                known = set(schema.get("properties", {})) | {
                    name for name in value for pattern in patterns if re.search(pattern, name)
                }
                other = [one for name, one in value.items() if name not in known]
                return rule is True or (not other if rule is False else all(self.fits(rule, one) for one in other))
        raise NotImplementedError(word)

    def values(self, schema: Schema) -> st.SearchStrategy[Any]:
        """Valid values."""
        schema = self.resolved(schema)
        name = json.dumps(schema, sort_keys=True)
        if name not in self._made:
            self._made[name] = self._candidates(schema).filter(lambda value: self.fits(schema, value))
        return self._made[name]

    def _candidates(self, schema: Schema) -> st.SearchStrategy[Any]:
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if "const" in schema:
            return st.just(schema["const"])
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            return self._objects(schema)
        arms = schema.get("anyOf") or schema.get("oneOf")
        if arms:
            return st.one_of([self.values(arm) for arm in arms])
        if kind == "array":
            return st.lists(
                self.values(schema["items"]), min_size=schema.get("minItems", 0), max_size=schema.get("minItems", 0) + 2
            )
        if kind in ("integer", "number"):
            return _numbers(schema, whole=kind == "integer")
        if kind == "boolean":
            return st.booleans()
        if kind == "null":
            return st.none()
        if "pattern" in schema:
            return st.from_regex(schema["pattern"], fullmatch=False).map(lambda text: text.strip("\n"))
        return st.text(
            st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 20) and 20
        )

    def _objects(self, schema: Schema) -> st.SearchStrategy[Any]:
        own: Schema = {name: self.values(one) for name, one in schema.get("properties", {}).items()}
        required = set(schema.get("required", ()))
        arms = [arm for arm in schema.get("oneOf", schema.get("anyOf", ())) if "properties" in arm] or [{}]

        @st.composite
        def build(draw: st.DrawFn) -> dict[str, Any]:
            arm = draw(st.sampled_from(arms))
            fields = own
            wanted = required | set(arm.get("required", ()))
            others = (
                draw(st.lists(st.sampled_from(sorted(set(fields) - wanted)), unique=True, max_size=5))
                if set(fields) - wanted
                else []
            )
            value = {name: draw(fields[name]) for name in (*sorted(wanted), *others)}
            for pattern, rule in schema.get("patternProperties", {}).items():
                if draw(st.integers(0, 3)) == 0:
                    value[draw(st.from_regex(pattern)).strip("\n")] = draw(self.values(rule))
            if schema.get("additionalProperties") is not False and not schema.get("propertyNames") and draw(st.booleans()):
                value.setdefault(
                    draw(st.text(st.characters(codec="utf-8"), max_size=8)), draw(st.sampled_from([1, "x", None, [1]]))
                )
            return value

        return build()


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _text_holds(word: str, rule: Any, value: str) -> bool:
    if word == "pattern":
        return re.search(rule, value) is not None
    return len(value) >= rule if word == "minLength" else len(value) <= rule


def _numbers(schema: Schema, *, whole: bool) -> st.SearchStrategy[Any]:
    least, most = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum", schema.get("exclusiveMaximum"))
    if whole:
        numbers = st.integers(least, most)
        return numbers | st.sampled_from([n for n in (least, most, 1, 2) if n is not None])
    return st.floats(least, most, allow_nan=False, allow_infinity=False) | st.integers(
        None if least is None else int(least), None if most is None else int(most)
    )
