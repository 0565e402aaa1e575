"""Schemas in keywords that grammars enforce: objects are closed, annotations left out, and the rest is refused by its place."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Any

import pytest

from orcinus.errors import RequestError
from orcinus.text.json_schema.enforceable_schema import enforceable_schema
from orcinus.text.json_schema.schema_problem import schema_problem, with_place
from tests.text.json_schema.grammar import grammar_of, writable

A: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED_A = {**A, "additionalProperties": False}


def tagged(name: str) -> dict[str, Any]:
    """An object whose constant member may be left out."""
    return {"type": "object", "properties": {"kind": {"const": name}}}


def nested() -> dict[str, Any]:
    """Alternatives of alternatives, 40 of each: a billion of the last ones."""
    inner = {f"d{depth}": {"anyOf": [{"$ref": f"#/$defs/d{depth + 1}"}] * 40} for depth in range(6)}
    return {"oneOf": [{"$ref": "#/$defs/d0"}, {"$ref": "#/$defs/d0"}], "$defs": {**inner, "d6": {"type": "string"}}}


def closed_tagged(name: str) -> dict[str, Any]:
    return {**tagged(name), "required": ["kind"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        (A, CLOSED_A),
        ({"type": "array", "items": A}, {"type": "array", "items": CLOSED_A}),
        ({"properties": {"x": A}}, {"properties": {"x": CLOSED_A}, "additionalProperties": False}),
        ({"$ref": "#/$defs/a", "$defs": {"a": A}}, {"$ref": "#/$defs/a", "$defs": {"a": CLOSED_A}}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [CLOSED_A, {"type": "null"}]}),
        ({"allOf": [A]}, {"allOf": [CLOSED_A]}),  # one part composes nothing
        (
            {"allOf": [A, {"description": "x"}]},
            {"allOf": [CLOSED_A, {"description": "x"}]},
        ),  # nor does one that speaks of no member
        (
            {"properties": {"a": A, "n": {"allOf": [{"minimum": 1}, {"maximum": 3}]}}},
            {"properties": {"a": CLOSED_A, "n": {"allOf": [{"minimum": 1}, {"maximum": 3}]}}, "additionalProperties": False},
        ),
        (
            {**A, "patternProperties": {"^x": {}}},
            {**CLOSED_A, "patternProperties": {"^x": {}}},
        ),
        ({"type": "string", "format": "password"}, {"type": "string"}),
        ({"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv4"}),
        ({"type": "string", "nullable": True}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"type": "object", "propertyNames": {"type": "string"}}, {"type": "object"}),
    ],
)
def test_declared_members_are_all(schema: dict[str, Any], closed: dict[str, Any]) -> None:
    assert enforceable_schema(schema) == closed


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "object"},  # declares nothing
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {"type": "string"}},
        {"type": "object", "patternProperties": {"^x": {}}, "required": ["a"]},
        {**A, "required": ["b"]},  # b must be there, undeclared
        {**A, "required": 5},  # refused later, with a reason
        {**A, "required": [["a"]]},
        {"allOf": [A, {"properties": {"b": {}}}]},
        {"$defs": {"base": A}, "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {}}}]},
        {**A, "anyOf": [{"properties": {"b": {}}}, {"properties": {"c": {}}}]},
        {"properties": {"b": {}}, "$ref": "#/$defs/base", "$defs": {"base": A}},
        {"enum": [{"properties": 1}]},
    ],
)
def test_where_more_may_be_said_the_schema_stays_as_it_is(schema: Any) -> None:
    assert enforceable_schema(schema) == schema


B: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
NAMES: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "integer"}}


@pytest.mark.parametrize(
    ("schema", "same"),
    [
        ({"type": "array", "uniqueItems": False, "unevaluatedItems": True}, {"type": "array"}),
        ({"type": "array", "uniqueItems": True, "maxItems": 1}, {"type": "array", "maxItems": 1}),
        ({"type": "string", "uniqueItems": True, "dependencies": {"a": ["b"]}}, {"type": "string"}),
        ({"then": {"type": "string"}, "minContains": 3, "dependentRequired": {}, "not": False}, {}),
        ({"type": "object", "unevaluatedProperties": False}, {"type": "object", "additionalProperties": False}),
        (
            {"properties": {"a": {"not": {}}}, "additionalProperties": True},
            {"properties": {"a": False}, "additionalProperties": True},
        ),
        (
            {"type": "array", "uniqueItems": True, "items": {"enum": [1, 2]}, "minItems": 1, "title": "T"},
            {"enum": [[1], [2], [1, 2], [2, 1]], "title": "T"},
        ),
        (
            {**NAMES, "propertyNames": {"enum": ["a"]}},
            {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False},
        ),
        (
            {**NAMES, "propertyNames": {"type": "string", "pattern": "^a"}},
            {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False},
        ),
        ({"type": "number", "minimum": -1e300, "maximum": 5}, {"type": "number", "minimum": -(10**15), "maximum": 5}),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (  # the constants tell the parts apart, so they are always written
            {"oneOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}], "$defs": {name: tagged(name) for name in "xy"}},
            {"anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}], "$defs": {name: closed_tagged(name) for name in "xy"}},
        ),
    ],
)
def test_keywords_are_put_into_those_that_can_be_enforced(schema: dict[str, Any], same: dict[str, Any]) -> None:
    before = deepcopy(schema)
    assert enforceable_schema(schema) == same
    assert schema == before, "the schema that was given stays as it is"


UNIQUE: dict[str, Any] = {"type": "array", "uniqueItems": True}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (UNIQUE, "#: 'uniqueItems'"),
        (
            {"properties": {"a/b": {"items": {"properties": {"~": UNIQUE}}}}},
            "#/properties/a~1b/items/properties/~0: 'uniqueItems'",
        ),
        ({"prefixItems": [{}, {"anyOf": [{}, {"not": {"type": "string"}}]}]}, "#/prefixItems/1/anyOf/1: 'not'"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"additionalProperties": {"$ref": "#/$defs/b"}}, "b": UNIQUE}},
            "#/$defs/b: 'unique",
        ),
        ({"items": {"$ref": "#/x/y/0"}, "x": {"y": [{"if": {}, "then": {"type": "null"}}]}}, "#/x/y/0: 'if'"),
        (
            {"properties": {"a": {"patternProperties": {"^x": {"contains": {}}}}}},
            "#/properties/a/patternProperties/^x: 'contains'",
        ),
        ({"properties": {"a": UNIQUE, "b": {"not": 1}}}, "#/properties/a: 'uniqueItems'"),  # the first in the schema's order
        ({"properties": {"b": {"not": 1}, "a": UNIQUE}}, "#/properties/b: 'not'"),
        ({"dependentSchemas": {"a": {"type": "null"}}}, "#: 'dependentSchemas'"),
        ({"properties": {"a": None}}, "#/properties/a: a schema must be an object or a boolean"),
        ({**NAMES, "propertyNames": {"not": {}}}, "#: 'propertyNames'"),
        ({"type": "array", "uniqueItems": True, "items": {"enum": list(range(7))}}, "#: 'uniqueItems'"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "#: 'oneOf'"),
        ({"items": {"type": "object", "minProperties": 2}}, "#/items: 'minProperties'"),  # one name may be written twice
        ({"$ref": "#"}, "#: '$ref' leads back"),
        (  # rewriting has an end: each of these is written as 1,957 arrays
            {"prefixItems": [{"type": "array", "uniqueItems": True, "items": {"enum": list(range(6))}}] * 20},
            "#/prefixItems/5: 'uniqueItems' cannot be enforced so often",
        ),
        (nested(), "#: 'oneOf'"),  # and so has the proof
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "#/items: '$ref' leads back"),
        (  # {"b": 1} has both parts, although the second one would be written with its tag
            {"oneOf": [{**B, "additionalProperties": False}, tagged("x")], "discriminator": {"propertyName": "kind"}},
            "#: 'oneOf'",
        ),
        ({"items": {"oneOf": [B, A]}}, "#/items: 'oneOf'"),  # {"b": 1} has both parts, as the second one declares no others
    ],
)
def test_what_cannot_be_enforced_is_named_with_its_place(schema: dict[str, Any], place: str) -> None:
    for _ in range(2):
        with pytest.raises(RequestError, match="^" + re.escape(place)):
            enforceable_schema(schema)


def test_definitions_that_are_not_used_are_not_looked_at() -> None:
    schema = {"type": "string", "$defs": {"unused": UNIQUE}}
    assert enforceable_schema(schema) == schema


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {"items": {"type": "teapot"}}}}, "#/properties/a/items: Invalid type: teapot"),
        (
            {"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"properties": {"b": {"pattern": "(?<=x)y"}}}}},
            "#/$defs/a/properties/b: invalid regex",
        ),
        ({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/none"}]}, "#/anyOf/1: Pointer '/$defs/"),
        ({"properties": {"a": {"required": 5, "type": "object"}}}, "#/properties/a: Expected array for 'required'"),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}, "required": ["a"]},
            "#/properties/a: Unsatisfiable schema",
        ),
        (
            {"properties": {"a": {"minProperties": 1, "properties": {"b": {}}, "additionalProperties": {}}}},
            "#/properties/a: min/maxProperties",
        ),
    ],
)
def test_the_place_of_what_llguidance_refuses_is_found(schema: dict[str, Any], said: str) -> None:
    found = enforceable_schema(schema)
    problem = schema_problem(found)
    assert with_place(found, len(json.dumps(found)), problem).startswith(said)


def test_the_search_for_a_place_ends() -> None:
    """A schema of 100,000 parts of which the last one is wrong: the place is that of the whole."""
    schema = {"anyOf": [{"type": "string"}] * 100_000 + [{"type": "teapot"}]}
    assert with_place(schema, len(json.dumps(schema)), "Invalid type: teapot") == "#: Invalid type: teapot"


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (r"^(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{4,8}$", ("Ab12", "99zZ"), ("ab12", "ABCD", "A1")),
        (r"^(?!-)(?!.*--)[a-z-]+$", ("a-b", "a-"), ("-a", "a--b", "--")),
        (r"^(?!.*ab)[abc]+$", ("aacb", "ba", "aa"), ("ab", "caab", "aab")),
        (r"^(?![.]*$)[.x]*$", ("x", ".x"), ("", "..")),
        (r"^(?!\d)\w*$", ("", "a1"), ("1a",)),
    ],
)
def test_look_ahead_at_the_beginning_is_enforced(pattern: str, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    grammar = grammar_of({"type": "string", "pattern": pattern})
    assert [re.match(pattern, text) is not None for text in (*right, *wrong)] == [True] * len(right) + [False] * len(wrong)
    assert [writable(grammar, text) for text in (*right, *wrong)] == [True] * len(right) + [False] * len(wrong)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "date",
            ("2026-11-30", "0001-01-01", "2024-02-29", "2000-02-29"),
            ("0000-01-01", "2026-02-29", "1900-02-29", "2026-02-30"),
        ),
        ("duration", ("P1DT2H", "PT0S", "P999999D"), ("P1000000D", "P", "1D")),
        ("time", ("23:59:59Z", "10:20:30.5+01:00"), ("23:59:60Z", "24:00:00Z")),
        (
            "date-time",
            ("2026-11-30T12:00:00Z",),
            ("0000-11-30T12:00:00Z", "2026-11-30T12:00:60Z", "2026-02-29T12:00:00Z", "2026-11-30"),
        ),
    ],
)
def test_dates_and_times_are_those_that_libraries_read(name: str, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    grammar = grammar_of({"type": "string", "format": name})
    assert [writable(grammar, text) for text in (*right, *wrong)] == [True] * len(right) + [False] * len(wrong)
