"""Objects have the members that a schema declares, unless it says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from orcinus.text.closed_schema import closed_schema

A: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED_A = {**A, "additionalProperties": False}


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
        ({"type": "string", "format": "password"}, {"type": "string"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "nullable": True}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"type": "object", "propertyNames": {"type": "string"}}, {"type": "object"}),
    ],
)
def test_declared_members_are_all(schema: dict[str, Any], closed: dict[str, Any]) -> None:
    assert closed_schema(schema) == closed


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "object"},  # declares nothing
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {"type": "string"}},
        {**A, "patternProperties": {"^x": {}}},
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
    assert closed_schema(schema) == schema
