"""Custom tools, whose input is one text, their grammars, and choices among allowed tools."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from orcinus.core.request import Finish
from orcinus.serve.body import parse
from orcinus.serve.chat_encoder import template_messages
from orcinus.serve.dialects.chat_tools import warnings_of, with_allowed_tools
from orcinus.serve.errors import ApiError
from orcinus.serve.schema import ChatBody
from orcinus.serve.tool_fields import choice_of, tools_of
from orcinus.text.tools import FORMS
from orcinus.text.tools.tool_call import Tool, ToolChoice
from tests.serve.conftest import Running
from tests.serve.test_answers import stream
from tests.serve.test_responses_input import PATCH, read
from tests.serve.test_responses_input import refusal as responses_refusal
from tests.serve.test_tools import CHAT, HI, LOOK, TURN, ask, replied
from tests.text.tools.constrained import token_id, walk
from tests.text.tools.parsed import parse as parse_calls

QUOTED = r'"[xy]{2}"\\(a|\n)z'  # its texts have quotes, a backslash and maybe a line break
EDIT = {"type": "custom", "custom": {"name": "edit", "description": "Changes a file."}}


def custom(name: str, syntax: str, definition: str) -> dict[str, Any]:
    form = {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}
    return {"type": "custom", "custom": {"name": name, "format": form}}


def body_of(**fields: Any) -> ChatBody:
    return parse(json.dumps({"messages": HI} | fields).encode(), ChatBody)


def allowed(mode: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def function_name(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def custom_name(name: str) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": name}}


# What the model is told


def test_the_model_knows_a_custom_tool_as_a_function_with_one_string() -> None:
    (tool,) = tools_of(body_of(tools=[EDIT]).tools)
    text = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"], "additionalProperties": False}
    assert tool == Tool("edit", "Changes a file.", text, strict=True)


def test_a_grammar_is_shown_to_the_model_and_a_regex_is_the_pattern_of_the_string() -> None:
    shown, bound = tools_of(body_of(tools=[custom("a", "lark", 'start: "x"'), custom("b", "regex", "x|y")]).tools)
    assert shown.description == 'The input follows this lark grammar:\nstart: "x"'
    assert shown.parameters is not None
    assert shown.parameters["properties"]["input"] == {"type": "string"}
    assert bound.description == "The input follows this regex grammar:\nx|y"
    assert bound.parameters is not None
    assert bound.parameters["properties"]["input"] == {"type": "string", "pattern": "^(?:x|y)$"}


def test_an_earlier_call_of_a_custom_tool_is_one_of_its_function() -> None:
    call = {"id": "call_1", "type": "custom", "custom": {"name": "edit", "input": 'say "hi"\n'}}
    messages = [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "done"}]
    told = template_messages(body_of(messages=messages).messages)[1]["tool_calls"]
    assert told == [
        {"id": "call_1", "type": "function", "function": {"name": "edit", "arguments": {"input": 'say "hi"\n'}}},
    ]


# What a grammar lets it write


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("required", "b")], ids=["required", "named"])
def test_inputs_match_the_regex_in_every_form(form: Any, choice: ToolChoice) -> None:
    tools = tools_of(body_of(tools=[custom("a", "regex", "[0-9]{3}"), custom("b", "regex", QUOTED)]).tools)
    grammar = form.grammar(tools, choice, parallel=False, token_id=token_id(()))
    patterns, ended = {"a": "[0-9]{3}", "b": QUOTED}, 0
    for seed in range(6):
        text = walk(grammar, seed, ())
        if text is not None:
            ((name, arguments),) = parse_calls(form, [text], tools).calls
            assert re.fullmatch(patterns[name], json.loads(arguments)["input"]), arguments
            ended += 1
    assert ended > 3


# What clients get


def test_a_custom_call_is_streamed_name_first_and_its_input_as_text() -> None:
    words = ["<tool_call>", '{"name": "edit", "arg', 'uments": {"in', 'put": "say \\', '"h', 'i\\"\\n"}}', "</tool_call>"]
    reply, choices = replied(words, tools=[TURN, EDIT])
    pieces = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    first, *others = pieces
    assert (first["index"], first["type"], first["custom"]) == (0, "custom", {"name": "edit", "input": ""})
    assert first["id"].startswith("call_")
    assert len(others) >= 2, "the input is not held back to the end of the call"
    assert all(piece.keys() == {"index", "custom"} and piece["custom"]["input"] for piece in others)
    assert "".join(piece["custom"]["input"] for piece in pieces) == 'say "hi"\n'
    assert choices[-1]["finish_reason"] == "tool_calls"
    (call,) = reply.choice(reply.answers.choices[0])["message"]["tool_calls"]
    assert call == {"id": first["id"], "type": "custom", "custom": {"name": "edit", "input": 'say "hi"\n'}}


@pytest.mark.parametrize(
    ("words", "end", "text"),
    [
        (['{"name": "edit", "arguments": {"input": "say', ' \\"'], Finish.LENGTH, 'say "'),
        (['{"name": "edit", "arguments": {"text": "x"}}', "</tool_call>"], Finish.STOP, '{"text": "x"}'),
    ],
    ids=["cut", "another argument"],
)
def test_an_input_that_is_not_whole_is_the_same_streamed(words: list[str], end: Finish, text: str) -> None:
    reply, choices = replied(["<tool_call>", *words], tools=[EDIT], end=end)
    pieces = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert "".join(piece["custom"]["input"] for piece in pieces) == text
    (call,) = reply.choice(reply.answers.choices[0])["message"]["tool_calls"]
    assert call["custom"]["input"] == text


def test_functions_and_custom_tools_are_called_side_by_side() -> None:
    words = ['<tool_call>{"name": "turn", "arguments": {"input": "a"}}</tool_call>\n']
    words += ['<tool_call>{"name": "edit", "arguments": {"input": "b"}}</tool_call>']
    reply, choices = replied(words, tools=[TURN, EDIT])
    calls = reply.choice(reply.answers.choices[0])["message"]["tool_calls"]
    assert [(call["type"], call[call["type"]]) for call in calls] == [
        ("function", {"name": "turn", "arguments": '{"input": "a"}'}),
        ("custom", {"name": "edit", "input": "b"}),
    ]
    pieces = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    for index, kind in enumerate(("function", "custom")):
        assert all(kind in piece for piece in pieces if piece["index"] == index)


def test_a_server_makes_a_call_that_matches_and_reads_its_result(server: Running) -> None:
    fields = {"tools": [custom("edit", "regex", QUOTED)], "tool_choice": custom_name("edit"), "temperature": 1, "seed": 5}
    message = ask(server, **fields)["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert call["type"] == "custom"
    assert call["id"].startswith("call_")
    assert re.fullmatch(QUOTED, call["custom"]["input"])
    frames = [one["choices"][0]["delta"] for one in stream(server, CHAT, messages=HI, max_tokens=80, **fields)]
    streamed = [piece["custom"] for delta in frames for piece in delta.get("tool_calls", [])]
    assert streamed[0]["name"] == "edit"
    assert "".join(piece["input"] for piece in streamed) == call["custom"]["input"]
    history = [*HI, message, {"role": "tool", "tool_call_id": call["id"], "content": "done"}]
    ask(server, messages=history, tools=fields["tools"], max_tokens=2)


def test_a_lark_grammar_is_not_enforced_and_the_response_says_so(server: Running) -> None:
    fields = {"tools": [LOOK, custom("edit", "lark", 'start: "x"')], "max_tokens": 2}
    warning = "tools[1].custom.format.grammar.definition: a Lark grammar is shown to the model and not enforced: "
    (told,) = ask(server, **fields)["warnings"]
    assert told.startswith(warning)
    first, *others = stream(server, CHAT, messages=HI, **fields)
    assert first["warnings"] == [told]
    assert not any("warnings" in frame for frame in others)
    assert "warnings" not in ask(server, tools=[custom("edit", "regex", "x")], max_tokens=2)
    response = server.http.post("/v1/responses", json={"input": "Hi", "tools": [PATCH], "max_output_tokens": 2}).json()
    assert response["warnings"] == ["tools[0].format: " + told.partition(": ")[2]]


def test_a_regex_binds_custom_tools_of_responses() -> None:
    form = {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}
    found = read({"input": "Hi", "tools": [PATCH | {"format": form}]})
    assert found.warnings == []
    (tool,) = tools_of(found.body.tools)
    assert tool.parameters is not None
    assert tool.parameters["properties"]["input"]["pattern"] == "^(?:[a-z]+)$"


# Allowed tools


def test_the_model_is_told_of_allowed_tools_alone() -> None:
    choice = allowed("required", function_name("look"), custom_name("edit"))
    body, _ = with_allowed_tools(body_of(tools=[TURN, LOOK, EDIT], tool_choice=choice))
    assert [tool.function.name for tool in body.tools or ()] == ["look", "edit"]
    assert body.tool_choice == "required"
    assert choice_of(body) == ToolChoice("required")


def test_errors_and_warnings_name_a_tool_by_its_place_in_the_request() -> None:
    choice = allowed("auto", custom_name("edit"))
    body, names = with_allowed_tools(body_of(tools=[TURN, custom("edit", "lark", "x")], tool_choice=choice))
    assert names.find("tools[0].function.parameters") == "tools[1].custom.format.grammar.definition"
    assert names.find("tools[0].function.name") == "tools[1].custom.name"
    assert warnings_of(body, names)[0].startswith("tools[1].custom.format.grammar.definition: ")


def test_a_server_calls_an_allowed_tool(server: Running) -> None:
    for mode, finish in (("required", {"tool_calls"}), ("auto", {"tool_calls", "stop", "length"})):
        choice = allowed(mode, function_name("look"))
        (found,) = ask(server, tools=[TURN, LOOK], tool_choice=choice, parallel_tool_calls=False)["choices"]
        assert found["finish_reason"] in finish
        assert {call["function"]["name"] for call in found["message"].get("tool_calls", [])} <= {"look"}
    both = ask(server, tools=[TURN, LOOK], max_tokens=1)["usage"]["prompt_tokens"]
    assert ask(server, tools=[TURN, LOOK], tool_choice=choice, max_tokens=1)["usage"]["prompt_tokens"] < both


# Mistakes

WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"tools": [LOOK], "tool_choice": allowed("auto", function_name("no"))},
        "tool_choice.allowed_tools.tools[0].function.name",
    ),
    ({"tools": [LOOK], "tool_choice": allowed("auto", custom_name("look"))}, "tool_choice.allowed_tools.tools[0].custom.name"),
    ({"tools": [LOOK], "tool_choice": allowed("any", function_name("look"))}, "tool_choice.allowed_tools.mode"),
    ({"tools": [LOOK], "tool_choice": allowed("auto")}, "tool_choice.allowed_tools.tools"),
    ({"tools": [LOOK], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
    ({"tool_choice": allowed("auto", function_name("look"))}, "tool_choice.allowed_tools.tools[0].function.name"),
    ({"tools": [EDIT], "tool_choice": function_name("edit")}, "tool_choice.function.name"),
    ({"tools": [EDIT, EDIT]}, "tools[1].custom.name"),
    ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
    ({"tools": [custom("a b", "regex", "x")]}, "tools[0].custom.name"),
    ({"tools": [custom("a", "ebnf", "x")]}, "tools[0].custom.format.grammar.syntax"),
    ({"tools": [{"type": "custom", "custom": {"name": "a", "format": {"type": "json"}}}]}, "tools[0].custom.format.type"),
    ({"tools": [{"type": "custom", "custom": {"name": "a", "format": {"type": "grammar"}}}]}, "tools[0].custom.format.grammar"),
    ({"tools": [LOOK, custom("a", "regex", "(")]}, "tools[1].custom.format.grammar.definition"),
    (
        {"tools": [TURN, LOOK, custom("a", "regex", "(")], "tool_choice": allowed("required", custom_name("a"))},
        "tools[2].custom.format.grammar.definition",
    ),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=[f"{param} {place}" for place, (_, param) in enumerate(WRONG)])
def test_mistakes_are_named_by_the_clients_fields(server: Running, fields: dict[str, Any], param: str) -> None:
    answer = server.http.post(CHAT, json={"messages": HI, "max_tokens": 1} | fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["message"].startswith(param)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "grammar", "syntax": "lark"}, "tools[0].format.definition"),
        ({"type": "grammar", "definition": "x"}, "tools[0].format.syntax"),
        ({"type": "json"}, "tools[0].format.type"),
    ],
)
def test_a_format_of_responses_is_whole(form: dict[str, Any], param: str) -> None:
    assert responses_refusal({"input": "Hi", "tools": [PATCH | {"format": form}]}).param == param


def test_a_regex_that_is_none_is_named_by_its_field_in_responses(server: Running) -> None:
    form = {"type": "grammar", "syntax": "regex", "definition": "("}
    error = server.http.post("/v1/responses", json={"input": "Hi", "tools": [PATCH | {"format": form}]}).json()["error"]
    assert error["param"] == "tools[0].format.definition"


def test_a_custom_call_needs_its_input() -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "edit"}}
    with pytest.raises(ApiError) as caught:
        body_of(messages=[*HI, {"role": "assistant", "tool_calls": [call]}])
    assert caught.value.param == "messages[1].tool_calls[0].custom.input"
