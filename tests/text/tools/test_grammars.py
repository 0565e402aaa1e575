"""What grammars let a model write: calls that the parser finds, with arguments that follow their schemas."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest

from orcinus.errors import RequestError
from orcinus.text.tools import FORMS
from orcinus.text.tools.mistral import Mistral
from orcinus.text.tools.pythonic import Pythonic
from orcinus.text.tools.tool_call import Tool, ToolChoice, ToolForm
from tests.examples import fewer
from tests.text.tools.constrained import accepts, token_id, walk
from tests.text.tools.parsed import parse

BOOK = Tool(
    "book_table",
    None,
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "guests": {"type": "integer", "minimum": 1, "maximum": 20},
            "window": {"type": "boolean"},
            "menu": {"enum": ["meat", "fish"]},
            "wishes": {"type": "array", "items": {"$ref": "#/$defs/wish"}, "maxItems": 2},
            "until": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "required": ["name", "guests", "wishes"],
        "$defs": {
            "wish": {
                "type": "object",
                "properties": {"what": {"type": "string", "maxLength": 4}, "hard": {"type": "boolean"}},
                "required": ["what"],
                "additionalProperties": False,
            }
        },
    },
)
NOTE = Tool("note", None, {"properties": {"text": {"type": ["string", "null"], "maxLength": 6}}})
NOW = Tool("now")
TOOLS = (BOOK, NOTE, NOW)
VARIANTS: dict[str, ToolForm] = {
    **FORMS,
    "mistral, named": Mistral(named=True),
    "pythonic, marked": Pythonic(mark="<|tool_call_start|>"),
}
ALL_FORMS = pytest.mark.parametrize("form", VARIANTS.values(), ids=VARIANTS)
MARKED = pytest.mark.parametrize("special", [False, True], ids=["text", "special"])
REQUIRED = ToolChoice("required")


def grammar(form: ToolForm, tools: Any, choice: ToolChoice, *, parallel: bool = True, special: bool = False) -> str:
    found = form.grammar(tools, choice, parallel=parallel, token_id=token_id(form.marks if special else ()))
    assert found is not None
    return found


def check(calls: list[tuple[str, str]], tools: tuple[Tool, ...] = TOOLS) -> None:
    """The calls are of tools, and follow their schemas."""
    named = {tool.name: tool for tool in tools}
    for name, text in calls:
        arguments = json.loads(text)
        if named[name].parameters is None:
            assert arguments == {}
        else:
            jsonschema.validate(arguments, named[name].parameters)


@ALL_FORMS
@MARKED
def test_forced_answers_are_calls_that_follow_the_schemas(form: ToolForm, special: bool) -> None:
    marks = form.marks if special else ()
    ended, names = 0, set()
    for seed in range(fewer(30)):
        text = walk(grammar(form, TOOLS, REQUIRED, special=special), seed, marks)
        if text is not None:
            found = parse(form, [text], TOOLS)
            assert (found.content, len(found.calls) > 0) == ("", True), text
            check(found.calls)
            ended, names = ended + 1, names | {name for name, _ in found.calls}
    assert ended >= fewer(30) / 2
    assert len(names) > 1


@ALL_FORMS
def test_without_parallel_calls_there_is_one(form: ToolForm) -> None:
    for seed in range(3):
        text = walk(grammar(form, (NOW,), REQUIRED, parallel=False), seed)
        assert text is not None
        assert parse(form, [text], (NOW,)).calls == [("now", "{}")]


@ALL_FORMS
def test_a_named_tool_is_called_once(form: ToolForm) -> None:
    for seed in range(3):
        text = walk(grammar(form, TOOLS, ToolChoice("required", "now")), seed)
        assert text is not None
        assert parse(form, [text], TOOLS).calls == [("now", "{}")]


WRITTEN = {  # a call of `now`, as each form writes it
    "hermes": '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    "qwen3_coder": "<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "llama3_json": '{"name": "now", "parameters": {}}',
    "mistral": '[TOOL_CALLS][{"name": "now", "arguments": {}}]',
    "mistral, named": "[TOOL_CALLS]now[ARGS]{}",
    "pythonic": "[now()]",
    "pythonic, marked": "<|tool_call_start|>[now()]<|tool_call_end|>",
}


@pytest.mark.parametrize(("form", "text"), WRITTEN.items())
def test_forced_calls_are_written_as_templates_write_them(form: str, text: str) -> None:
    lark = grammar(VARIANTS[form], TOOLS, REQUIRED)
    assert accepts(lark, text)
    assert not accepts(lark, f"Hello {text}")
    assert not accepts(lark, f"{text} ")
    assert not accepts(lark, text.replace("now", "nay"))
    assert not accepts(lark, "")


def test_special_tokens_are_tokens() -> None:
    marks = ("<tool_call>", "</tool_call>")
    lark = grammar(FORMS["hermes"], TOOLS, REQUIRED, special=True)
    opened, closed = (token_id(marks)(mark) for mark in marks)
    assert opened is not None
    assert closed is not None
    body = '\n{"name": "now", "arguments": {}}\n'
    assert accepts(lark, opened, body, closed, marks=marks)
    assert accepts(lark, opened, body, closed, "\n", opened, body, closed, marks=marks)
    assert not accepts(lark, opened, body, marks=marks)


STRICT = Tool("note", None, {"properties": {"text": {"type": "string", "enum": ["a"]}}, "required": ["text"]}, strict=True)
FREE = Tool("free", None, {"properties": {"x": {"type": "string"}}})
BOUND = {  # beginnings of calls after which only what follows the schema may come, and what may not
    "hermes": ('Hi <tool_call>\n{"name": "note", "arguments": {"text": "', 'a"}}\n</tool_call>', 'b"}}\n</tool_call>'),
    "qwen3_coder": (
        "Hi <tool_call>\n<function=note>\n<parameter=text>\n",
        "a\n</parameter>\n</function>\n</tool_call>",
        "b\n</parameter>\n</function>\n</tool_call>",
    ),
    "llama3_json": ('{"name": "note", "parameters": {"text": "', 'a"}}', 'b"}}'),
    "mistral": ('Hi [TOOL_CALLS][{"name": "note", "arguments": {"text": "', 'a"}}]', 'b"}}]'),
    "mistral, named": ('Hi [TOOL_CALLS]note[ARGS]{"text": "', 'a"}', 'b"}'),
    "pythonic": ('[note(text="', 'a")]', 'b")]'),
    "pythonic, marked": ('Hi <|tool_call_start|>[note(text="', 'a")]<|tool_call_end|>', 'b")]<|tool_call_end|>'),
}


@pytest.mark.parametrize("form", BOUND)
def test_strict_tools_bind_arguments_from_the_opening_on(form: str) -> None:
    lark = grammar(VARIANTS[form], (STRICT, FREE), ToolChoice("auto"))
    opening, right, wrong = BOUND[form]
    assert accepts(lark, "Hello, any text. <tool, [TOOL, {1}\n[2]\n")
    assert accepts(lark, opening + right)
    assert accepts(lark, opening + right + " and more")
    assert accepts(lark, opening + right + "\n" + opening + right)
    assert not accepts(lark, opening + wrong)
    assert not accepts(lark, opening + right + "\n" + opening + wrong)
    unknown = (opening + right).replace("note", "nope")
    assert not accepts(lark, unknown) or not parse(VARIANTS[form], [unknown], (STRICT, FREE)).calls
    assert parse(VARIANTS[form], [opening + right], (STRICT, FREE)).calls == [("note", '{"text": "a"}')]
    once = grammar(VARIANTS[form], (STRICT, FREE), ToolChoice("auto"), parallel=False)
    assert accepts(once, opening + right)
    assert not accepts(once, opening + right + "\n" + opening + right)


@pytest.mark.parametrize("form", BOUND)
def test_arguments_of_other_tools_are_free(form: str) -> None:
    lark = grammar(VARIANTS[form], (STRICT, FREE), ToolChoice("auto"))
    opening, right, _ = BOUND[form]
    call = (opening + right).replace("note", "free").replace("text", "other")
    assert accepts(lark, call)
    assert parse(VARIANTS[form], [call], (STRICT, FREE)).calls == [("free", '{"other": "a"}')]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("llama3_json", '{"type": "function", "name": "note", "parameters": {"text": "b"}}'),
        ("llama3_json", '{\n "name": "note", "parameters": {"text": "b"}}'),
        ("llama3_json", 'Look:\n{"name": "note", "parameters": {"text": "b"}}'),
        ("llama3_json", '<|python_tag|>{"name": "note", "parameters": {"text": "b"}}'),
        ("qwen3_coder", "<function=note>\n<parameter=text>\nb\n</parameter>\n</function>\n</tool_call>"),
        ("pythonic", 'Look:\n[ note(text="b")]'),
        ("pythonic", '<|python_start|>[note(text="b")]<|python_end|>'),
    ],
)
def test_no_other_opening_gets_around_the_schema(form: str, text: str) -> None:
    lark = grammar(FORMS[form], (STRICT,), ToolChoice("auto"))
    assert parse(FORMS[form], [text], (STRICT,)).calls == [("note", '{"text": "b"}')]
    assert not accepts(lark, text)


@ALL_FORMS
def test_any_text_is_an_answer_if_nothing_is_bound(form: ToolForm) -> None:
    for tools, choice in [(TOOLS, ToolChoice("auto")), ((STRICT,), ToolChoice("none")), ((), ToolChoice("auto"))]:
        assert form.grammar(tools, choice, parallel=True, token_id=token_id(())) is None


@ALL_FORMS
def test_a_forced_call_needs_a_tool(form: ToolForm) -> None:
    for tools, choice in [((), REQUIRED), (TOOLS, ToolChoice("required", "none of them"))]:
        with pytest.raises(RequestError, match="there is no such tool"):
            form.grammar(tools, choice, parallel=True, token_id=token_id(()))


def test_names_are_written_as_json_strings() -> None:
    odd = Tool('say "hi"\n/\\ü')
    for name in ("hermes", "llama3_json", "mistral"):
        text = walk(grammar(FORMS[name], (odd,), REQUIRED, parallel=False), 0)
        assert text is not None
        assert parse(FORMS[name], [text]).calls == [(odd.name, "{}")]


@pytest.mark.parametrize(
    ("form", "tool"),
    [
        (FORMS["qwen3_coder"], Tool("a>b")),
        (FORMS["qwen3_coder"], Tool("a", None, {"properties": {"<": {}}})),
        (FORMS["pythonic"], Tool("a b")),
        (FORMS["pythonic"], Tool("a", None, {"properties": {"b c": {}}})),
        (Mistral(named=True), Tool("a b")),
    ],
)
def test_names_that_a_form_cannot_write_are_refused(form: ToolForm, tool: Tool) -> None:
    with pytest.raises(RequestError, match="cannot write"):
        grammar(form, (tool,), REQUIRED)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"properties": []}, "properties must be an object"),
    ({"properties": {"a": {}}, "required": 5}, "Expected array for 'required'"),
    ({"properties": {"a": {}}, "required": [["a"]]}, "Expected string for 'required' item"),
    ({"properties": {"a": {"type": "teapot"}}}, "Invalid type: teapot"),
    ({"properties": {"a": {"type": ["string", "teapot"]}}}, "Invalid type: teapot"),
    ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "Pointer '/$defs/b' does not exist"),
    ({"properties": {"a": {"type": "string", "pattern": "(?<=b)c"}}}, "#/properties/a: invalid regex"),
    (
        {"properties": {"a": {"type": "array", "items": {"not": {"type": "null"}}}}},
        "#/properties/a/items: 'not' cannot be enforced",
    ),
]


@ALL_FORMS
@pytest.mark.parametrize(("schema", "reason"), BROKEN)
def test_a_bound_tool_whose_schema_cannot_be_used_is_named(form: ToolForm, schema: dict[str, Any], reason: str) -> None:
    place = "tools[1].function.parameters"
    for tool, choice in [(Tool("f", None, schema), REQUIRED), (Tool("f", None, schema, strict=True), ToolChoice("auto"))]:
        with pytest.raises(RequestError, match=re.escape(reason)) as caught:
            grammar(form, (NOW, tool), choice)
        assert caught.value.field == place
        assert str(caught.value).startswith(f"{place}: ")
    assert grammar(form, (STRICT, Tool("f", None, schema)), ToolChoice("auto")), "its arguments are not bound"


@pytest.mark.parametrize("form", ["qwen3_coder", "pythonic"])
def test_schemas_that_are_no_list_of_properties_are_refused(form: str) -> None:
    tool = Tool("f", None, {"anyOf": [{"required": ["a"]}], "properties": {"a": {}}})
    with pytest.raises(RequestError, match=r"tools\[0\].function.parameters: .* cannot enforce 'anyOf'"):
        grammar(FORMS[form], (tool,), REQUIRED)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string", "pattern": "^[a-c]+$"}, "abc", "abd"),
        ({"type": "string", "pattern": r"\d/"}, "x 5/", "x /"),
        ({"type": "string", "minLength": 2, "maxLength": 3}, "ab", "a"),
        ({"type": "string", "minLength": 2, "maxLength": 3}, "a\nb", "abcd"),
        ({"const": "a b"}, "a b", "a"),
        ({"enum": ["a", "b"]}, "b", "c"),
        ({"type": "integer", "minimum": 5}, "7", "3"),
        ({"type": "number"}, "2.5", "x"),
        ({"type": "boolean"}, "true", "yes"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", '["a"]'),
        ({"type": ["string", "array"], "items": {"type": "integer"}}, "[1]", "[x]"),
        ({"type": ["string", "array"], "items": {"type": "integer"}}, "word", '["a"]'),
    ],
)
def test_values_without_quotes_follow_their_schema(schema: dict[str, Any], right: str, wrong: str) -> None:
    tool = Tool("f", None, {"properties": {"x": schema}, "required": ["x"]})
    text = "<tool_call>\n<function=f>\n<parameter=x>\n%s\n</parameter>\n</function>\n</tool_call>"
    lark = grammar(FORMS["qwen3_coder"], (tool,), REQUIRED)
    assert accepts(lark, text % right)
    assert not accepts(lark, text % wrong)
    check(parse(FORMS["qwen3_coder"], [text % right], [tool]).calls, (tool,))


@pytest.mark.parametrize("arguments", ['{"x":"a"}', '{ "x": "a"}', '{"x": "a" }', '{"x": "a"\n}'])
def test_json_has_the_white_space_of_templates_and_no_other(arguments: str) -> None:
    lark = grammar(FORMS["llama3_json"], (FREE,), REQUIRED)
    assert accepts(lark, '{"name": "free", "parameters": {"x": "a"}}')
    assert not accepts(lark, f'{{"name": "free", "parameters": {arguments}}}')


def test_tools_that_need_too_many_rules_are_refused() -> None:
    many = [Tool(f"f{number}", None, FREE.parameters) for number in range(10_001)]
    with pytest.raises(RequestError, match="more than 20,000 grammar rules"):
        grammar(FORMS["hermes"], many, REQUIRED)


def test_arguments_that_are_not_declared_are_not_written() -> None:
    open_ended = Tool("f", None, {"properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}})
    closed = Tool("f", None, {"properties": {"a": {"type": "integer"}}})
    text = '{"name": "f", "parameters": {"a": 1, "b": true}}'
    assert accepts(grammar(FORMS["llama3_json"], (open_ended,), REQUIRED), text)
    assert not accepts(grammar(FORMS["llama3_json"], (closed,), REQUIRED), text)
    assert accepts(grammar(FORMS["llama3_json"], (closed,), REQUIRED), text.replace(', "b": true', ""))
