"""Schemas in the shapes that other tools write: zod, OpenAI's strict mode, MCP servers, OpenAPI, draft-07."""

from __future__ import annotations

from typing import Any

from tests.text.json_schema.cases import Case

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
SAFE = {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991}
ZOD_EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
ZOD_UUID = (
    "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|0{8}-0{4}-0{4}-0{4}-0{12})$"
)
UUID_TEXT = "123e4567-e89b-12d3-a456-426614174000"


def closed(required: bool = True, /, **properties: Any) -> dict[str, Any]:
    """An object as strict modes want it."""
    names = {"required": list(properties)} if required else {}
    return {"type": "object", "properties": properties, **names, "additionalProperties": False}


def _of_zod() -> dict[str, Case]:
    user = closed(
        name={"type": "string", "minLength": 1, "maxLength": 20},
        email={"type": "string", "format": "email", "pattern": ZOD_EMAIL},
        id={"type": "string", "format": "uuid", "pattern": ZOD_UUID},
        age=SAFE,
        nickname={"anyOf": [TEXT, {"type": "null"}]},
    )
    ann = {"name": "Ann", "email": "ann.b@example.com", "id": UUID_TEXT, "age": 9, "nickname": None}
    circle = closed(type={"type": "string", "const": "circle"}, radius={"type": "number", "exclusiveMinimum": 0})
    square = closed(type={"type": "string", "const": "square"}, side=NUMBER)
    names = {"type": "string", "enum": ["a", "b"]}
    password = r"^(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{4,8}$"
    return {
        "zod: an object": Case(
            {"$schema": DRAFT_2020, **user},
            (ann,),
            (
                {**ann, "email": ".ann@example.com"},
                {**ann, "email": "a..b@example.com"},
                {**ann, "id": "1"},
                {**ann, "name": ""},
            ),
        ),
        "zod 3: an object": Case(
            {"$schema": DRAFT_7, **closed(a={"type": ["string", "null"]}, b={"type": "array", "items": NUMBER})},
            ({"a": None, "b": [1, 2.5]},),
            ({"a": 1, "b": []},),
        ),
        "zod: a discriminated union": Case(
            {"$schema": DRAFT_2020, "oneOf": [circle, square]},
            ({"type": "circle", "radius": 1.5}, {"type": "square", "side": -2}),
            ({"type": "circle", "side": 1}, {"type": "circle", "radius": 0}),
        ),
        "zod: a record": Case(
            {"type": "object", "propertyNames": TEXT, "additionalProperties": WHOLE}, ({}, {"a": 1, "b": 2}), ({"a": "b"},)
        ),
        "zod: a record of an enumeration": Case(
            {"type": "object", "propertyNames": names, "additionalProperties": WHOLE, "required": ["a", "b"]},
            ({"a": 1, "b": 2},),
            ({"a": 1}, {"a": 1, "b": 2, "c": 3}),
        ),
        "zod: a loose object": Case(
            {"type": "object", "properties": {"a": TEXT}, "required": ["a"], "additionalProperties": {}},
            ({"a": "x"}, {"a": "x", "b": [None]}),
            ({"b": 1},),
        ),
        "zod: an intersection": Case(
            {
                "allOf": [
                    {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
                    {"type": "object", "properties": {"b": WHOLE}, "required": ["b"]},
                ]
            },
            ({"a": "x", "b": 1},),
            ({"a": "x"}, {"b": 1}),
        ),
        "zod: never and undefined": Case(
            {"type": "object", "properties": {"a": TEXT, "b": {"not": {}}}, "required": ["a"], "additionalProperties": False},
            ({"a": "x"},),
            ({"a": "x", "b": 1},),
        ),
        "zod: a tuple": Case(
            {"type": "array", "prefixItems": [TEXT, NUMBER], "items": {"type": "boolean"}},
            (["a", 1, True], ["a", 1]),
            (["a", 1, 1],),
        ),
        "zod 3: a tuple": Case(
            {"$schema": DRAFT_7, "type": "array", "minItems": 2, "maxItems": 2, "items": [TEXT, NUMBER]},
            (["a", 1.5],),
            (["a"], [1, 1]),
        ),
        "zod: a checked text": Case({"type": "string", "pattern": password}, ("Ab12", "9zzzZ"), ("ab12", "ABCD", "A1")),
        "zod: a float of 32 bits": Case(
            {"type": "number", "minimum": -3.4028234663852886e38, "maximum": 3.4028234663852886e38}, (1.5, -2), ("a",)
        ),
        "zod: recursion": Case(
            {"$schema": DRAFT_2020, **closed(name=TEXT, children={"type": "array", "items": {"$ref": "#"}})},
            ({"name": "a", "children": [{"name": "b", "children": []}]},),
            ({"name": "a", "children": [{"name": "b"}]},),
        ),
        "zod: a set": Case(
            closed(names={"type": "array", "uniqueItems": True, "items": TEXT}),
            refused="#/properties/names: 'uniqueItems' cannot be enforced: ",
        ),
    }


def _of_openai() -> dict[str, Case]:
    step = closed(explanation=TEXT, output=TEXT)
    event = closed(name=TEXT, date=TEXT, participants={"type": "array", "items": TEXT})
    linked = {
        **closed(linked_list={"$ref": "#/$defs/node"}),
        "$defs": {"node": closed(value=NUMBER, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})},
    }
    ui = closed(
        type={"type": "string", "enum": ["div", "button"]},
        label=TEXT,
        children={"type": "array", "items": {"$ref": "#"}},
        attributes={"type": "array", "items": closed(name=TEXT, value=TEXT)},
    )
    weather = closed(
        location={"type": "string", "description": "City, e.g. Paris"},
        unit={"type": ["string", "null"], "enum": ["C", "F", None]},
    )
    return {
        "strict: steps": Case(
            closed(steps={"type": "array", "items": step}, final_answer=TEXT),
            ({"steps": [{"explanation": "a", "output": "b"}], "final_answer": "c"},),
            ({"steps": [{"explanation": "a"}], "final_answer": "c"},),
        ),
        "strict: an event": Case(
            event, ({"name": "a", "date": "b", "participants": ["c", "d"]},), ({"name": "a", "date": "b"},)
        ),
        "strict: a linked list": Case(
            linked,
            ({"linked_list": {"value": 1, "next": {"value": 2, "next": None}}},),
            ({"linked_list": {"value": 1}},),
        ),
        "strict: a recursive root": Case(
            ui,
            (
                {
                    "type": "div",
                    "label": "a",
                    "children": [{"type": "button", "label": "b", "children": [], "attributes": []}],
                    "attributes": [{"name": "x", "value": "y"}],
                },
            ),
            ({"type": "span", "label": "a", "children": [], "attributes": []},),
        ),
        "strict: weather": Case(
            weather, ({"location": "Paris", "unit": None}, {"location": "Rome", "unit": "C"}), ({"location": "Paris"},)
        ),
        "strict: alternatives of objects": Case(
            closed(item={"anyOf": [closed(name=TEXT, age=NUMBER), closed(number=TEXT, street=TEXT)]}),
            ({"item": {"name": "a", "age": 1}}, {"item": {"number": "1", "street": "b"}}),
            ({"item": {"name": "a", "street": "b"}},),
        ),
        "a tool without parameters": Case({"type": "object", "properties": {}}, ({},), ([],)),
        "instructor: a partial list": Case(
            {
                "$defs": {
                    "User": {
                        "properties": {"name": {"title": "Name", "type": "string"}},
                        "required": ["name"],
                        "title": "User",
                        "type": "object",
                    }
                },
                "properties": {
                    "tasks": {"description": "Correctly segmented list", "items": {"$ref": "#/$defs/User"}, "type": "array"}
                },
                "required": ["tasks"],
                "title": "IterableUser",
                "type": "object",
            },
            ({"tasks": [{"name": "a"}, {"name": "b"}]},),
            ({"tasks": [{}]},),
        ),
        "langchain: a tool": Case(
            {
                "description": "Multiply two numbers.",
                "properties": {
                    "a": {"description": "first", "type": "integer"},
                    "b": {"allOf": [{"$ref": "#/$defs/N"}], "default": 2},
                },
                "required": ["a"],
                "title": "multiply",
                "type": "object",
                "$defs": {"N": {"title": "N", "type": "integer", "enum": [2, 3]}},
            },
            ({"a": 1}, {"a": 1, "b": 3}),
            ({"b": 3}, {"a": 1, "b": 4}),
        ),
    }


def _of_mcp() -> dict[str, Case]:
    edits = {"type": "array", "items": closed(oldText={"type": "string", "description": "Text to search for"}, newText=TEXT)}
    edit = {
        "type": "object",
        "properties": {"path": TEXT, "edits": edits, "dryRun": {"type": "boolean", "default": False}},
        "required": ["path", "edits"],
        "additionalProperties": False,
        "$schema": DRAFT_7,
    }
    fetch = {
        "type": "object",
        "description": "Parameters for fetching a URL.",
        "properties": {
            "url": {"description": "URL to fetch", "format": "uri", "minLength": 1, "title": "Url", "type": "string"},
            "max_length": {
                "default": 5000,
                "exclusiveMaximum": 1000000,
                "exclusiveMinimum": 0,
                "title": "Max Length",
                "type": "integer",
            },
            "raw": {"default": False, "type": "boolean"},
        },
        "required": ["url"],
    }
    commit = {
        "type": "object",
        "properties": {
            "repo_path": TEXT,
            "files": {"items": TEXT, "type": "array"},
            "since": {"anyOf": [TEXT, {"type": "null"}], "default": None},
        },
        "required": ["repo_path", "files"],
    }
    call = {"path": "/a", "edits": [{"oldText": "x", "newText": "y"}]}
    return {
        "mcp: edits of a file": Case(
            edit, (call, {**call, "dryRun": True}), ({"path": "/a"}, {**call, "edits": [{"oldText": "x"}]})
        ),
        "mcp: a list of paths": Case(
            {
                "type": "object",
                "properties": {"paths": {"type": "array", "items": TEXT, "minItems": 1, "description": "Paths"}},
                "required": ["paths"],
            },
            ({"paths": ["a", "b"]},),
            ({"paths": []},),
        ),
        "mcp: fetch": Case(
            fetch,
            ({"url": "https://example.com/x?a=b"}, {"url": "http://a.b", "max_length": 999999, "raw": True}),
            ({"url": "http://a.b", "max_length": 0}, {"max_length": 1}),
        ),
        "mcp: a commit": Case(commit, ({"repo_path": ".", "files": ["a"], "since": None},), ({"repo_path": "."},)),
        "mcp: members without a type": Case(
            {"type": "object", "properties": {"value": {"description": "anything"}, "key": TEXT}, "required": ["value"]},
            ({"value": {"a": [1]}, "key": "x"}, {"value": None}),
            ({"key": "x"},),
        ),
        "mcp: no properties": Case({"type": "object"}, ({},), (1,)),
        "mcp: nothing at all": Case({"type": "object", "properties": {}, "additionalProperties": False}, ({},), ({"a": 1},)),
    }


def _of_openapi() -> dict[str, Case]:
    return {
        "openapi: nullable": Case(
            {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "nullable": True, "example": "Ann"},
                    "kind": {"type": "string", "enum": ["a", "b"], "nullable": True},
                    "size": {"type": "integer", "format": "int64", "minimum": 0, "exclusiveMinimum": True},
                    "home": {"$ref": "#/components/schemas/Home"},
                },
                "required": ["name"],
                "components": {"schemas": {"Home": {"type": "object", "properties": {"city": TEXT}, "xml": {"name": "Home"}}}},
            },
            ({"name": None, "kind": None, "size": 1, "home": {"city": "a"}}, {"name": "a", "home": {}}),
            ({"name": 1}, {"name": "a", "size": 0}, {"name": "a", "home": {"other": 1}}),
            standard=False,
        ),
        "openapi: a mapped discriminator": Case(
            {
                "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
                "discriminator": {"propertyName": "petType", "mapping": {"cat": "#/components/schemas/Cat"}},
                "components": {
                    "schemas": {
                        "Cat": {"type": "object", "properties": {"petType": {"enum": ["cat"]}, "age": WHOLE}},
                        "Dog": {
                            "type": "object",
                            "properties": {"petType": {"enum": ["dog"]}, "bark": TEXT},
                            "required": ["petType"],
                        },
                    }
                },
            },
            ({"petType": "cat", "age": 3}, {"petType": "dog", "bark": "w"}),
            ({"age": 3}, {"petType": "cat", "bark": "w"}),
        ),
        "openapi: parts that overlap": Case(
            {
                "type": "object",
                "properties": {
                    "x": {
                        "oneOf": [{"type": "object", "properties": {"a": TEXT}}, {"type": "object", "properties": {"b": TEXT}}]
                    }
                },
            },
            refused="#/properties/x: 'oneOf' cannot be enforced: ",
        ),
        "openapi: parts with different members": Case(
            {
                "oneOf": [
                    {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
                    {"type": "object", "properties": {"b": TEXT}, "required": ["b"]},
                ]
            },
            ({"a": "x"}, {"b": "x"}),
            ({"a": "x", "b": "x"}, {}),
        ),
    }


def _of_drafts() -> dict[str, Case]:
    person = {"type": "object", "properties": {"name": TEXT, "boss": {"$ref": "#/definitions/Person"}}, "required": ["name"]}
    card = {"type": "object", "properties": {"card": TEXT, "zip": TEXT}, "dependencies": {"card": ["zip"]}}
    branches = {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}}
    return {
        "typescript: definitions": Case(
            {"$schema": DRAFT_7, "$ref": "#/definitions/Person", "definitions": {"Person": person}},
            ({"name": "a", "boss": {"name": "b"}},),
            ({"boss": {"name": "b"}}, {"name": "a", "age": 1}),
        ),
        "typescript: a union of words": Case(
            {
                "$schema": DRAFT_7,
                "definitions": {},
                "anyOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "array", "items": TEXT}],
            },
            ("a", ["x"]),
            ("c",),
        ),
        "draft-07: a list of items": Case(
            {"$schema": DRAFT_7, "type": "array", "items": [TEXT, WHOLE], "additionalItems": False},
            (["a", 1], ["a"]),
            (["a", 1, 2], [1]),
        ),
        "draft-07: dependencies": Case(
            {"type": "array", "items": card}, refused="#/items: 'dependencies' cannot be enforced: "
        ),
        "draft-07: branches": Case(
            {"definitions": {"x": {"type": "object", "properties": {"y": branches}}}, "$ref": "#/definitions/x"},
            refused="#/definitions/x/properties/y: 'if' cannot be enforced: ",
        ),
        "an enumeration of several types": Case(
            {"enum": ["a", 1, None, True, [1], {"x": "y"}]}, ("a", 1, None, [1], {"x": "y"}), (2, "b")
        ),
        "annotations": Case(
            {
                "type": "object",
                "title": "T",
                "examples": [{"a": 1}],
                "properties": {
                    "a": {
                        "type": "integer",
                        "default": 1,
                        "deprecated": True,
                        "writeOnly": True,
                        "x-ui": {"not": 1},
                        "uniqueItems": True,
                    }
                },
                "unevaluatedProperties": False,
                "$id": "https://example.com/t.json",
            },
            ({"a": 1}, {}),
            ({"a": "x"}, {"b": 1}),
        ),
        "pydantic: a decimal": Case(
            {"anyOf": [NUMBER, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]},
            (1.5, "1.50", "-.5", "+007"),
            ("+.", "", "1.2.3"),
        ),
        "names by pattern": Case(
            {"type": "object", "patternProperties": {"^x-": TEXT}, "additionalProperties": False},
            ({"x-a": "b"}, {}),
            ({"a": "b"},),
        ),
        "a negation": Case(
            {"type": "object", "properties": {"a": {"not": {"type": "null"}}}}, refused="#/properties/a: 'not' cannot"
        ),
        "a check of an item": Case({"type": "array", "contains": TEXT}, refused="#: 'contains' cannot be enforced: "),
    }


CASES = {**_of_zod(), **_of_openai(), **_of_mcp(), **_of_openapi(), **_of_drafts()}
