"""Requests of every dialect with wrong values anywhere: a right error or a bounded answer, and no neighbour notices."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orcinus.conformance.shapes import LEAK
from tests.examples import fewer
from tests.serve.conftest import Running

Json = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"city": "Rome"}'}}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": True}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]}
USER = {"role": "user", "content": "Hi"}
BODIES: dict[str, tuple[str, Json]] = {  # right ones, with everything that has a structure
    "chat with tools": ("/v1/chat/completions", {
        "messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "x"}, USER,
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False, "stop": ["x"], "logprobs": True, "top_logprobs": 1, "max_tokens": 2,
    }),
    "chat in a form": ("/v1/chat/completions", {
        "messages": [USER], "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        "stream": True, "stream_options": {"include_usage": True}, "thinking_token_budget": 3, "max_tokens": 2,
    }),
    "response": ("/v1/responses", {
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "x"}]},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "z"}]},
        ],
        "tools": [
            {"type": "function", **FUNCTION}, {"type": "custom", "name": "free", "format": {"type": "text"}},
            {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "in", "parameters": SCHEMA}]},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "free"}]},
        "instructions": "i", "metadata": {"a": "b"}, "truncation": "auto", "store": False, "max_output_tokens": 2,
    }),
    "message": ("/v1/messages", {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "look", "input": {"city": "Rome"}},
            ]},
            {"role": "user", "content": [RESULT]},
        ],
        "system": [{"type": "text", "text": "s"}], "tools": [{"name": "look", "input_schema": SCHEMA, "strict": True}],
        "tool_choice": {"type": "tool", "name": "look"}, "stop_sequences": ["x"], "metadata": {"user_id": "u"},
        "max_tokens": 2,
    }),
}  # fmt: skip
GONE = object()
JUNK: list[Any] = [
    *(GONE, None, True, 0, -1, 2**63, 10**300, 1.5, "", "x", "\u0000", "a\nb", "<tool_call>", "x" * 300, "auto", "required"),
    *([], [None], [[]], [{}], {}, {"type": None}, {"type": "text"}, {"type": []}, {"": ""}, ["x"] * 50, {"name": "look"}),
    *({"$ref": "#"}, {"$ref": "#/nope"}, {"type": "string", "pattern": "("}, {"anyOf": []}, {"enum": []}, {"not": {}}),
    *({"type": "object", "required": ["z"]}, {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
]


def places(node: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Where the values of a body stand."""
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield (*above, key)
        yield from places(node[key], *above, key)


def spoil(body: Json, place: tuple[Any, ...], change: Callable[[Any], Any]) -> None:
    *above, last = place
    inner: Any = body
    for key in above:
        inner = inner[key]
    new = change(inner[last])
    if new is GONE:
        del inner[last]
    else:
        inner[last] = new


def spoiled(body: Json, numbers: random.Random) -> Json:
    """The body with a wrong value somewhere."""
    found: Json = json.loads(json.dumps(body))
    junk = numbers.choice(JUNK)
    changes: list[Callable[[Any], Any]] = [
        lambda old: old * 2 if isinstance(old, list | str) else junk,
        lambda old: old[::-1] if isinstance(old, list) else [old],
    ]
    spoil(found, numbers.choice([*places(found)]), numbers.choice([*[lambda old: junk] * 6, *changes]))
    for name in ("max_tokens", "max_output_tokens"):
        if name in body and not (isinstance(found.get(name), str | list) or found.get(name) == 0):
            found[name] = 2
    return found


def control(server: Running) -> Any:
    answer = server.http.post("/v1/chat/completions", json={"messages": [USER], "temperature": 0, "max_tokens": 8})
    return answer.json()["choices"]


@pytest.mark.parametrize("name", BODIES)
def test_a_right_body_is_answered(server: Running, name: str) -> None:
    path, body = BODIES[name]
    assert server.http.post(path, json=body).status_code == 200


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_value_anywhere_is_no_defect(server: Running, name: str) -> None:
    path, body = BODIES[name]
    before, numbers, statuses = control(server), random.Random(name), set[int]()
    for _ in range(fewer(200)):
        sent = spoiled(body, numbers)
        answer = server.http.post(path, content=json.dumps(sent), headers={"Content-Type": "application/json"})
        statuses.add(answer.status_code)
        if answer.status_code == 200:
            continue
        error = answer.json()["error"]
        assert answer.status_code in (400, 404), (sent, error)
        assert (answer.json().get("type") == "error") == (path == "/v1/messages")
        assert error["type"] in ("invalid_request_error", "not_found_error"), error
        assert not LEAK.search(error["message"]), error
    assert {200, 400} <= statuses
    assert server.http.get("/health").status_code == 200
    assert control(server) == before
