"""Tools of /v1/responses as functions of a chat, and calls in histories."""

from __future__ import annotations

from typing import Any

import pytest

from orcinus.serve.errors import ApiError
from tests.serve.test_responses_input import DOCS, PATCH, SHELL, USER, messages, read


def call(name: str, call_id: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_reasoning_text_and_calls_of_a_turn_are_one_message_of_the_assistant() -> None:
    turn = [
        {"role": "user", "content": "What is here?"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "I look."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": '{"command": "ls"}'},
        {"type": "function_call", "call_id": "c2", "name": "shell", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "a.py"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "nothing"}]},
        {"type": "message", "role": "assistant", "content": "One file."},
    ]
    assert messages({"input": turn, "tools": [SHELL]})[1:] == [
        {
            "role": "assistant",
            "reasoning_content": "I look.",
            "content": "Let me see.",
            "tool_calls": [call("shell", "c1", '{"command": "ls"}'), call("shell", "c2", "{}")],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "shell", "content": "a.py"},
        {"role": "tool", "tool_call_id": "c2", "name": "shell", "content": "nothing"},
        {"role": "assistant", "content": "One file."},
    ]


def test_tools_are_functions() -> None:
    found = read({"input": "Hi", "tools": [SHELL, PATCH, DOCS]})
    assert found.body.tools is not None
    functions = [one.function for one in found.body.tools]
    assert [one.name for one in functions] == ["shell", "apply_patch", "mcp__docs__search", "mcp__docs__read"]
    patch, search = functions[1:3]
    assert patch.description == 'Changes files.\n\nThe input follows this lark grammar:\nstart: "x"'
    assert patch.parameters == {
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": False,
    }
    assert patch.strict is True
    assert search.description == "The handbook.\n\nFinds pages."
    assert search.strict is False
    own = [found.tools.find(one.name) for one in functions]
    assert [(one.kind, one.namespace, one.name) for one in own] == [
        ("function", None, "shell"),
        ("custom", None, "apply_patch"),
        ("function", "mcp__docs__", "search"),
        ("function", "mcp__docs__", "read"),
    ]


def test_long_names_of_namespaces_stay_apart() -> None:
    spaces = [{**DOCS, "name": "n" * 120 + last, "tools": [{"type": "function", "name": "a_tool"}]} for last in "xy"]
    found = read({"input": "Hi", "tools": spaces})
    assert found.body.tools is not None
    names = [one.function.name for one in found.body.tools]
    assert len(set(names)) == 2
    assert all(len(name) <= 128 for name in names)
    assert [found.tools.find(name).namespace for name in names] == [space["name"] for space in spaces]


def test_earlier_calls_have_the_names_of_their_functions() -> None:
    items = [
        {"role": "user", "content": "Go"},
        {"type": "function_call", "call_id": "1", "name": "search", "namespace": "mcp__docs__", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "found"},
        {"type": "custom_tool_call", "call_id": "2", "name": "apply_patch", "input": 'a "b"\n'},
        {"type": "custom_tool_call_output", "call_id": "2", "output": "done"},
    ]
    found = messages({"input": items, "tools": [PATCH, DOCS]})
    assert found[1]["tool_calls"] == [call("mcp__docs__search", "1", "{}")]
    assert found[2]["name"] == "mcp__docs__search"
    assert found[3]["tool_calls"] == [call("apply_patch", "2", '{"input": "a \\"b\\"\\n"}')]


@pytest.mark.parametrize("kind", ["web_search", "image_generation", "local_shell", "tool_of_tomorrow"])
def test_tools_that_openai_runs_are_left_out_with_a_warning(kind: str) -> None:
    found = read({"input": "Hi", "tools": [{"type": kind, "external_web_access": True}, SHELL]})
    assert found.body.tools is not None
    assert [one.function.name for one in found.body.tools] == ["shell"]
    assert found.tools.in_use == [SHELL]
    assert found.warnings == [f"tools[0]: this server has no {kind}; the model was not told of it"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "shell"}, {"type": "function", "function": {"name": "shell"}}),
        ({"type": "custom", "name": "apply_patch"}, {"type": "custom", "custom": {"name": "apply_patch"}}),
        (
            {"type": "function", "name": "read", "namespace": "mcp__docs__"},
            {"type": "function", "function": {"name": "mcp__docs__read"}},
        ),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    found = read({"input": "Hi", "tools": [SHELL, PATCH, DOCS], "tool_choice": choice}).body.tool_choice
    assert (found if isinstance(found, str) or found is None else found.model_dump()) == expected


def test_allowed_tools_are_the_only_ones() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "read"}]}
    found = read({"input": "Hi", "tools": [SHELL, DOCS], "tool_choice": choice}).body
    assert found.tools is not None
    assert [one.function.name for one in found.tools] == ["mcp__docs__read"]
    assert found.tool_choice == "required"


def test_options_under_the_names_of_chats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    found = read(
        {
            "input": "Hi",
            "max_output_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 3,
            "seed": 1,
            "stop": ["x"],
            "parallel_tool_calls": False,
            "tools": [SHELL],
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}, "verbosity": "low"},
            "include": ["message.output_text.logprobs"],
            "top_logprobs": 2,
            "safety_identifier": "someone",
            "prompt_cache_key": "session",
            "stream": True,
        }
    ).body
    assert (found.max_completion_tokens, found.temperature, found.top_p) == (7, 0.5, 0.9)
    assert (found.top_k, found.seed, found.stop, found.stream) == (3, 1, ["x"], True)
    assert (found.parallel_tool_calls, found.reasoning_effort) == (False, "low")
    assert (found.logprobs, found.top_logprobs) == (True, 2)
    assert (found.user, found.prompt_cache_key) == ("someone", "session")
    assert found.response_format is not None
    assert found.response_format.model_dump(by_alias=True, exclude_none=True) == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


def test_an_error_of_the_chat_gets_the_clients_names() -> None:
    found = read({"instructions": "A", "input": [USER, {"role": "assistant", "content": "B"}], "tools": [PATCH, DOCS]})
    error = ApiError(400, "messages[2].content: is wrong; max_tokens 5 is less than 6", param="tools[1].function.name")
    told = found.names.translate(error)
    assert told.message == "input[1].content: is wrong; max_output_tokens 5 is less than 6"
    assert told.param == "tools[1].tools[0].name"
    assert found.names.find("messages") == "input"
    assert found.names.find("messages[0].content") == "instructions"
