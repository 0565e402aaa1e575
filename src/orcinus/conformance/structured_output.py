"""Checks of answers bound to a form: JSON, schemas, expressions, choices, grammars."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.shapes import expect_error, refused_or_bounded
from orcinus.conformance.target import CHAT, HI, OPENING, TEXT, Json, ServerUnderTest, granted
from orcinus.conformance.verdict import Failed, Skip, expect, expect_equal

PROPERTIES: Json = {
    "sunny": {"type": "boolean"},
    "wind": {"enum": ["north", "south"]},
    "days": {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 1, "maxItems": 2},
}
# Any model can follow it: every value comes from a short list.
SCHEMA: Json = {"type": "object", "properties": PROPERTIES, "required": [*PROPERTIES], "additionalProperties": False}
ROOM = 256  # tokens; models that reason need most of them


def named(schema: Any, **fields: Any) -> Json:
    """The fields of a chat whose answer follows a schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema} | fields}}


BOUND = named(SCHEMA, strict=True)


def weather(content: str) -> None:
    """Raise `Failed` unless a text is JSON that follows `SCHEMA`."""
    found = parsed(content)
    expect(isinstance(found, dict) and set(found) == set(PROPERTIES), f"the answer is {found!r}")
    days = found["days"]
    expect(isinstance(found["sunny"], bool) and found["wind"] in ("north", "south"), f"the answer is {found!r}")
    expect(isinstance(days, list) and 1 <= len(days) <= 2 and set(days) <= {1, 2, 3}, f"days is {days!r}")


def parsed(content: str) -> Any:
    """JSON text. Raises `Failed` if it is none."""
    try:
        return json.loads(content)
    except (ValueError, TypeError):
        raise Failed(f"no JSON: {str(content)[:60]!r}") from None


def _asked(target: ServerUnderTest, path: str, fields: Json) -> Json:
    """The answer. Raises `Skip` if the server refuses the field as unsupported."""
    start: Json = {"prompt": OPENING} if path == TEXT else {"messages": HI}
    return granted(target.post(path, start | {"max_tokens": ROOM, "temperature": 0} | fields))


def _contents(answer: Json) -> list[str]:
    """The texts of a chat or a completion that ended by themselves."""
    for one in answer["choices"]:
        expect_equal(one["finish_reason"], "stop", "finish_reason")
    return [str(one["message"]["content"] if "message" in one else one["text"]) for one in answer["choices"]]


# Every name under which a server may know the same: it must obey it, or refuse it.
FORMS: list[tuple[str, str, Json, Callable[[str], object]]] = []


def _form(name: str, fields: Json, holds: Callable[[str], object], *paths: str) -> None:
    FORMS.extend((f"{name} in a {'chat' if path == CHAT else 'completion'}", path, fields, holds) for path in paths)


def _in(*choices: str) -> Callable[[str], object]:
    return lambda content: expect(content in choices, f"the answer is {content[:60]!r}")


def _digits(content: str) -> None:
    expect(re.fullmatch("[0-9]{3}-[0-9]{2}", content), f"the answer is {content[:60]!r}")


CHOICES, EXPRESSION = ("maple", "oak"), "[0-9]{3}-[0-9]{2}"
GBNF = 'root ::= tree ("," tree)?\ntree ::= "maple" | "oak"\n'
LARK = 'start: tree ("," tree)?\ntree: "maple" | "oak"\n'
TREES = _in("maple", "oak", *(f"{one},{two}" for one in CHOICES for two in CHOICES))

_form("response_format json_schema", BOUND, weather, CHAT, TEXT)
_form("response_format json_schema without strict", named(SCHEMA), weather, CHAT)
for _name, _wanted, _holds in (
    ("json", SCHEMA, weather),
    ("regex", EXPRESSION, _digits),
    ("choice", list(CHOICES), _in(*CHOICES)),
    ("grammar", GBNF, TREES),
):
    _form(f"structured_outputs {_name}", {"structured_outputs": {_name: _wanted}}, _holds, CHAT, TEXT)
    _form(f"guided_{_name}", {f"guided_{_name}": _wanted}, _holds, CHAT)
_form("structured_outputs grammar as Lark", {"structured_outputs": {"grammar": LARK}}, TREES, CHAT)
_form("llama.cpp's json_schema", {"json_schema": SCHEMA}, weather, TEXT)
_form("llama.cpp's grammar", {"grammar": GBNF}, TREES, TEXT)
_form("SGLang's regex", {"regex": EXPRESSION}, _digits, CHAT)


def _obeyed(path: str, fields: Json, holds: Callable[[str], object]) -> Body:
    def body(target: ServerUnderTest) -> None:
        for content in _contents(_asked(target, path, fields)):
            holds(content)

    return body


def _streamed(path: str, fields: Json) -> Body:
    def body(target: ServerUnderTest) -> None:
        (whole,) = _contents(_asked(target, path, fields))
        stream = target.stream(path, None, **{"max_tokens": ROOM} | fields)
        expect_equal(stream.text(), whole, "the stream's text")
        expect_equal(stream.reasons(), ["stop"], "the finish reasons")

    return body


for _name, _path, _fields, _holds in FORMS:
    add(Check(f"structured output: {_name} is obeyed", _obeyed(_path, _fields, _holds)))
for _name, _path, _fields, _ in (FORMS[0], FORMS[1], FORMS[5]):
    add(Check(f"structured output: {_name} streams the whole", _streamed(_path, _fields)))


@check("structured output: json_object gives an object")
def _json_object(target: ServerUnderTest) -> None:
    choice = _asked(target, CHAT, {"response_format": {"type": "json_object"}})["choices"][0]
    content = choice["message"]["content"]
    if choice["finish_reason"] == "length":  # some models never end theirs
        expect(str(content).lstrip().startswith("{"), f"the answer is no object: {str(content)[:60]!r}")
        return
    expect(isinstance(parsed(content), dict), "the answer is no object")


@check("structured output: samples at temperature 2 follow the schema")
def _sampled(target: ServerUnderTest) -> None:
    for content in _contents(_asked(target, CHAT, BOUND | {"n": 4, "temperature": 2, "seed": 5})):
        weather(content)


@check("structured output: logprobs are those of the answer's tokens")
def _logprobs(target: ServerUnderTest) -> None:
    choice = _asked(target, CHAT, BOUND | {"logprobs": True})["choices"][0]
    if not choice.get("logprobs"):
        raise Skip("the server gives no logprobs")
    text = b"".join(bytes(one["bytes"]) for one in choice["logprobs"]["content"] if one["bytes"]).decode()
    expect(choice["message"]["content"] in text, f"the tokens are {text[:60]!r}")


@check("structured output: max_tokens cuts an answer, and the reason is length")
def _cut(target: ServerUnderTest) -> None:
    answer = _asked(target, CHAT, BOUND | {"max_tokens": 3})
    expect_equal(answer["usage"]["completion_tokens"], 3, "completion_tokens")
    expect_equal(answer["choices"][0]["finish_reason"], "length", "finish_reason")


@check("structured output: ignore_eos and min_tokens add nothing to a finished answer", ours=True)
def _finished(target: ServerUnderTest) -> None:
    for fields in ({"ignore_eos": True}, {"min_tokens": 100}):
        (content,) = _contents(_asked(target, CHAT, BOUND | fields))
        weather(content)


@check("structured output: two different forms at once are 400", ours=True)
def _two_forms(target: ServerUnderTest) -> None:
    expect_error(target.post(CHAT, {"messages": HI, "max_tokens": 4, "guided_regex": "a"} | BOUND), 400, "guided_regex")


def _schema_of_nodes(count: int) -> Json:
    return {"anyOf": [{"type": "array", "items": {"const": index}} for index in range(count)]}


def _chain(count: int) -> Json:
    nodes = {f"d{index}": {"type": "array", "items": {"$ref": f"#/$defs/d{index + 1}"}} for index in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": nodes | {f"d{count}": {"type": "null"}}}


def _arrays(levels: int) -> Json:
    return {"type": "array", "items": _arrays(levels - 1)} if levels else {"type": "string"}


def _deep(levels: int) -> str:
    return '{"items":' * levels + "{}" + "}" * levels


_LOOP: Json = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
_RULES = "root ::= r0\n" + "".join(f'r{index} ::= "x" r{index + 1}\n' for index in range(5000)) + 'r5000 ::= "y"\n'
_OPTIONAL: Json = {"type": "object", "properties": {f"p{index}": {"type": "integer"} for index in range(5000)}}
# A server may refuse these, or answer within max_tokens; it must not fail, and must go on as before.
COSTLY: dict[str, Json] = {
    "an endless schema": named(_LOOP),
    "a schema 40 arrays deep": named(_arrays(40)),
    "a schema that is its own reference": named({"$ref": "#"}),
    "a maxLength of 10**9": named({"type": "string", "maxLength": 10**9}),
    "a minItems of 10**9": named({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
    "bounds of 300 digits": named({"type": "integer", "minimum": 10**300, "maximum": 10**301}),
    "an enum of 20,000 values": named({"enum": [f"value {index}" for index in range(20_000)]}),
    "20,000 alternatives": named(_schema_of_nodes(20_000)),
    "5,000 references in a row": named(_chain(5000)),
    "5,000 optional properties": named(_OPTIONAL),
    "a schema 10,000 deep as a string": {"structured_outputs": {"json": _deep(10_000)}},
    "an expression of nested counts": {"structured_outputs": {"regex": "((((a{1,50}){1,50}){1,50}){1,50}){1,50}"}},
    "a pattern of 10 KB": named({"type": "string", "pattern": "(a|b?)+" * 1500}),
    "an expression of 10 KB": {"structured_outputs": {"regex": "(.*a|b?.){1,9}" * 700}},
    "10,000 parentheses": {"structured_outputs": {"regex": "(" * 10_000 + "a" + ")" * 10_000}},
    "100,000 choices": {"structured_outputs": {"choice": [f"choice {index}" for index in range(100_000)]}},
    "2,500 choices": {"structured_outputs": {"choice": [f"choice {index}" for index in range(2_500)]}},
    "a rule that begins with itself": {"structured_outputs": {"grammar": 'root ::= root "a" | "a"'}},
    "an ambiguous rule": {"structured_outputs": {"grammar": 'root ::= root root root | root root | [a-z ] | ""'}},
    "5,000 rules in a row": {"structured_outputs": {"grammar": _RULES}},
    "100,000 rules": {"structured_outputs": {"grammar": 'root ::= "a"\n' + 'x ::= "b"\n' * 100_000}},
    "5,000 nested groups": {"structured_outputs": {"grammar": "root ::= " + "(" * 5000 + '"a"' + ")" * 5000}},
}  # fmt: skip


for _name, _fields in COSTLY.items():
    add(
        Check(
            f"structured output: {_name} is refused or bounded",
            partial(refused_or_bounded, {"messages": HI, "temperature": 0} | _fields),
        )
    )
