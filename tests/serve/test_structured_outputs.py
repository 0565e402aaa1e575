"""Answers bound to a form, under the names of several engines."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.serve.conftest import Running
from tests.serve.test_answers import stream

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
STARTS: dict[str, dict[str, Any]] = {CHAT: {"messages": [{"role": "user", "content": "Hi"}]}, TEXT: {"prompt": "Once"}}
SCHEMA = {
    "type": "object",
    "properties": {"sunny": {"type": "boolean"}, "wind": {"enum": ["north", "south"]}},
    "required": ["sunny", "wind"],
    "additionalProperties": False,
}
WEATHER = r'\s*\{\s*"sunny"\s*:\s*(true|false)\s*,\s*"wind"\s*:\s*"(north|south)"\s*\}\s*'
YEAR, GBNF, LARK = "(19|20)[0-9]{2}", 'root ::= "ab" | "cd"', 'start: "ab" | "cd"'
FORMS: dict[str, tuple[Any, str]] = {  # a field, its value, and what the whole answer must match
    "response_format": ({"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True}}, WEATHER),
    "response_format with a schema of llama.cpp": ({"type": "json_object", "schema": SCHEMA}, WEATHER),
    "structured_outputs json": ({"json": SCHEMA}, WEATHER),
    "structured_outputs json as text": ({"json": json.dumps(SCHEMA)}, WEATHER),
    "structured_outputs regex": ({"regex": YEAR}, YEAR),
    "structured_outputs choice": ({"choice": ["yes", "no"]}, "yes|no"),
    "structured_outputs grammar": ({"grammar": LARK}, "ab|cd"),
    "guided_json": (SCHEMA, WEATHER),
    "guided_regex": (YEAR, YEAR),
    "guided_choice": (["yes", "no"], "yes|no"),
    "guided_grammar": (GBNF, "ab|cd"),
    "json_schema": (SCHEMA, WEATHER),
    "regex": (YEAR, YEAR),
    "grammar": (GBNF, "ab|cd"),
    "ebnf": (GBNF, "ab|cd"),
}


def said(server: Running, path: str, **fields: Any) -> str:
    body = {"temperature": 0, "max_tokens": 60} | STARTS[path] | fields
    answer = server.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "stop"
    found: str = choice["message"]["content"] if path == CHAT else choice["text"]
    return found


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("name", FORMS)
def test_the_answer_has_the_form_asked_for(server: Running, name: str, path: str) -> None:
    value, form = FORMS[name]
    text = said(server, path, **{name.split()[0]: value})
    assert re.fullmatch(form, text), text


def test_a_json_object(server: Running) -> None:
    """The bundled model would write a long one: the end is forced by its biases."""
    for fields in ({"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}):
        body = STARTS[CHAT] | fields | {"max_tokens": 60, "temperature": 0, "stop": ["}"], "include_stop_str_in_output": True}
        text = server.http.post(CHAT, json=body).json()["choices"][0]["message"]["content"]
        assert text.lstrip().startswith("{")


def test_a_form_holds_in_a_stream_for_every_answer_and_any_temperature(server: Running) -> None:
    fields = {"guided_json": SCHEMA, "n": 3, "temperature": 1.5, "seed": 5, "max_tokens": 60}
    texts = dict.fromkeys(range(3), "")
    for frame in stream(server, CHAT, **STARTS[CHAT], **fields):
        choice = frame["choices"][0]
        texts[choice["index"]] += choice["delta"].get("content") or ""
    assert all(re.fullmatch(WEATHER, text) for text in texts.values()), texts


def test_an_answer_that_is_cut_is_an_answer_cut(server: Running) -> None:
    body = STARTS[CHAT] | {"guided_json": SCHEMA, "max_tokens": 2, "temperature": 0}
    (choice,) = server.http.post(CHAT, json=body).json()["choices"]
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}},
        {"response_format": None},
        {"structured_outputs": {}},
        {"structured_outputs": {"json_object": False, "structural_tag": None, "disable_any_whitespace": False}},
        {"guided_json": False, "guided_choice": None, "guided_regex": "", "grammar": ""},
        {"guided_decoding_backend": None},
    ],
    ids=str,
)
def test_no_form_is_no_form(server: Running, fields: dict[str, Any]) -> None:
    plain, found = (
        server.http.post(CHAT, json=STARTS[CHAT] | more | {"temperature": 0, "max_tokens": 5}) for more in ({}, fields)
    )
    assert found.json()["choices"] == plain.json()["choices"]


def test_two_fields_that_ask_for_the_same_form_do_not_contradict(server: Running) -> None:
    assert said(server, CHAT, guided_regex=YEAR, structured_outputs={"regex": YEAR})


def _schema(**schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def nested(levels: int) -> dict[str, Any]:
    return {"type": "array", "items": nested(levels - 1)} if levels else {"type": "string"}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "json_schema without its object": ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    "json_schema without a schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
    ),
    "a bad schema": (_schema(type="wibble"), "response_format.json_schema.schema"),
    "an unknown type": ({"response_format": {"type": "xml"}}, "response_format.type"),
    "no type": ({"response_format": {}}, "response_format.type"),
    "a string": ({"response_format": "json"}, "response_format"),
    "a schema that no text fits": (_schema(allOf=[{"type": "string"}, {"type": "null"}]), "response_format.json_schema.schema"),
    "a schema that is no JSON": ({"guided_json": "{"}, "guided_json"),
    "a regular expression that is none": ({"guided_regex": "("}, "guided_regex"),
    "another under another name": ({"structured_outputs": {"regex": "["}}, "structured_outputs.regex"),
    "a grammar that is none": ({"grammar": "root ::= ("}, "grammar"),
    "a grammar of an unknown rule": ({"ebnf": "root ::= missing"}, "ebnf"),
    "a number": ({"json_schema": 5}, "json_schema"),
    "choices that are no texts": ({"guided_choice": [1]}, "guided_choice[0]"),
    "2,000 choices": ({"guided_choice": ["x"] * 2000}, "guided_choice"),
    "two forms": ({"guided_regex": "a", "regex": "b"}, "regex"),
    "two kinds": ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
    "two forms of OpenAI and vLLM": (
        {"response_format": {"type": "json_object"}, "guided_choice": ["a"]},
        "guided_choice",
    ),
    "a structural tag": ({"structural_tag": {"type": "structural_tag"}}, "structural_tag"),
    "one inside": ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
    "white space of another kind": (
        {"structured_outputs": {"json": {}, "whitespace_pattern": "[ ]?"}},
        "structured_outputs.whitespace_pattern",
    ),
    "no choices": ({"guided_choice": []}, "guided_choice"),
    "no choices inside": ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    "a backend": ({"guided_decoding_backend": "outlines"}, "guided_decoding_backend"),
    "ollama's format": ({"format": "json"}, "format"),
    "a schema as text, 500 lists deep": ({"guided_json": json.dumps(nested(500))}, "guided_json"),
    "20,000 properties": (
        _schema(type="object", properties={f"p{i}": {"type": "string"} for i in range(20_000)}),
        "response_format.json_schema.schema",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_a_form_is_refused_by_the_clients_own_name(server: Running, name: str) -> None:
    fields, param = BAD[name]
    answer = server.http.post(CHAT, json=STARTS[CHAT] | {"max_tokens": 2} | fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(param)
    assert "\n" not in error["message"]
    assert server.idle()


EXPLODING: dict[str, dict[str, Any]] = {
    "nested counts": {"guided_regex": "((a{1,99}){1,99}){1,99}" * 400},
    "counts of counts": {"guided_regex": "((((a{1,999}){1,999}){1,999}){1,999}){1,999}"},
    "a huge length": _schema(type="string", minLength=10**9),
    "a grammar that calls itself": {"grammar": 'root ::= root root | "a"'},
    "2,000 references": _schema(
        **{"$ref": "#/$defs/d0", "$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(2000)} | {"d2000": {}}}
    ),
}


@pytest.mark.parametrize("name", EXPLODING)
def test_a_form_that_explodes_is_refused_or_answered_within_bounds(server: Running, name: str) -> None:
    answer = server.http.post(CHAT, json=STARTS[CHAT] | {"max_tokens": 4} | EXPLODING[name])
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert "the form" in answer.json()["error"]["message"]
    assert server.idle()


def test_what_a_schema_uses_in_vain_is_named(server: Running) -> None:
    answer = server.http.post(CHAT, json=STARTS[CHAT] | _schema(type="object", properties={"a": {"contains": {}}}))
    assert answer.status_code == 400, answer.text
    assert "#/properties/a: 'contains' cannot be enforced" in answer.json()["error"]["message"]
