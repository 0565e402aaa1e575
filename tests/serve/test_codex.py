"""Requests as Codex sends them: every field, every kind of tool, its history resent turn by turn."""

from __future__ import annotations

import json
from typing import Any

from orcinus.serve.body import parse
from orcinus.serve.dialects.responses_input import seal_reasoning
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.validation import check_fields
from tests.examples import fewer
from tests.serve.conftest import Running
from tests.serve.test_responses import BLOCK, create, stream

TOOLS = [
    {
        "type": "function",
        "name": "shell_command",
        "description": "Runs a command.",
        "strict": False,
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
    {"type": "web_search", "external_web_access": False},
    {"type": "image_generation", "output_format": "png"},
    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}},
    {
        "type": "namespace",
        "name": "mcp__docs__",
        "description": "The handbook.",
        "tools": [{"type": "function", "name": "search", "strict": False, "parameters": {"type": "object", "properties": {}}}],
    },
]


def text(role: str, words: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": words}]}


OPENING = [
    text("developer", "<permissions instructions>Ask before you write.</permissions instructions>"),
    text("user", "<environment_context><cwd>/src</cwd><shell>bash</shell></environment_context>"),
    text("user", "What is in this folder?"),
]


def request(items: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """The body of one request."""
    return {
        "model": "orcinus-tiny",
        "instructions": "You are a coding agent.",
        "input": items,
        "tools": TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199",
        "text": {"verbosity": "medium"},
        "client_metadata": {"x-codex-installation-id": "1"},
        "max_output_tokens": 12,  # it sends none: this keeps the test short
    } | fields


def test_a_request_with_every_field(server: Running) -> None:
    final = stream(server, **request(OPENING))[-1]["response"]
    assert [tool["type"] for tool in final["tools"]] == ["function", "custom", "namespace"]
    assert final["warnings"] == [
        "tools[1]: this server has no web_search; the model was not told of it",
        "tools[2]: this server has no image_generation; the model was not told of it",
        "tools[3].format: a Lark grammar is shown to the model and not enforced: check the input of every call",
    ]
    assert final["store"] is False
    assert final["output"][0]["type"] == "message"


def test_no_field_of_it_is_unknown() -> None:
    found = parse(json.dumps(request(OPENING)).encode(), ResponsesBody)
    assert check_fields(found, strict=True) == ["client_metadata"]


def test_ten_turns_of_a_session_find_the_turn_before_in_the_cache(server: Running) -> None:
    items, before = list(OPENING), 0
    for turn in range(fewer(10, least=4)):
        found = stream(server, **request(items, max_output_tokens=6))[-1]["response"]
        assert found["usage"]["input_tokens_details"]["cached_tokens"] >= before // BLOCK * BLOCK
        before = found["usage"]["input_tokens"]
        arguments = f'{{"command":"cat {turn}"}}'
        items += [
            {"type": "reasoning", "summary": [], "encrypted_content": seal_reasoning("I look.")},
            *({name: value for name, value in item.items() if name not in ("id", "status")} for item in found["output"]),
            {"type": "function_call", "name": "shell_command", "arguments": arguments, "call_id": f"c{turn}"},
            {"type": "function_call_output", "call_id": f"c{turn}", "output": f"file {turn}"},
        ]
    assert before > (5 * turn + 1) * BLOCK


def test_calls_of_every_kind_in_a_history(server: Running) -> None:
    items = [
        *OPENING,
        {"type": "function_call", "name": "search", "namespace": "mcp__docs__", "arguments": "{}", "call_id": "a"},
        {
            "type": "custom_tool_call",
            "name": "apply_patch",
            "input": "*** Begin Patch\n",
            "call_id": "b",
            "status": "completed",
        },
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "nothing"}]},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "done"},
    ]
    assert create(server, **request(items))["status"] in ("completed", "incomplete")
