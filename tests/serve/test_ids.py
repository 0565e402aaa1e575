"""Ids of responses, items and calls have the prefixes of each API; those of any history are accepted."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from orcinus.text.tools.mistral import template_id
from orcinus.text.tools.template_support import with_template_ids
from tests.serve.conftest import Running

HI = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"side": {"enum": ["left", "right"]}}, "required": ["side"]}
FUNCTION = {"name": "turn", "parameters": SCHEMA}
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "messages": HI,
        "max_tokens": 80,
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    },
    "/v1/responses": {
        "input": "Hi",
        "max_output_tokens": 80,
        "tools": [{"type": "function", **FUNCTION}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    },
    "/v1/messages": {
        "messages": HI,
        "max_tokens": 80,
        "tools": [{"name": "turn", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    },
    "/v1/completions": {"prompt": "Hi", "max_tokens": 2},
}
FORMS = {  # of each id in a response, by its path
    "/v1/chat/completions": {"id": "chatcmpl-[0-9a-f]{24}", "choices.0.message.tool_calls.0.id": "call_[a-zA-Z0-9]{24}"},
    "/v1/responses": {
        "id": "resp_[0-9a-f]{24}",
        "output.0.id": "fc_[0-9a-f]{24}_0",
        "output.0.call_id": "call_[a-zA-Z0-9]{24}",
    },
    "/v1/messages": {"id": "msg_[0-9a-f]{24}", "content.0.id": "toolu_[a-zA-Z0-9]{24}"},
    "/v1/completions": {"id": "cmpl-[0-9a-f]{24}"},
}


def at(found: Any, path: str) -> str:
    """A value inside a response: `output.0.id`."""
    for part in path.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    return str(found)


@pytest.mark.parametrize("path", REQUESTS)
def test_whole_responses(server: Running, path: str) -> None:
    answer = server.http.post(path, json=REQUESTS[path])
    assert answer.status_code == 200, answer.text
    for place, form in FORMS[path].items():
        assert re.fullmatch(form, at(answer.json(), place)), place
    assert answer.headers["x-response-id"] == answer.json()["id"]


@pytest.mark.parametrize("path", REQUESTS)
def test_streams_have_the_same_and_one_of_each(server: Running, path: str) -> None:
    with server.http.stream("POST", path, json=REQUESTS[path] | {"stream": True}) as answer:
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: {")]
        told = answer.headers["x-response-id"]
    ids = {found for line in lines for found in re.findall(r'"(?:id|item_id|call_id)":"([^"]+)"', line)}
    forms = list(FORMS[path].values())
    assert told in ids
    assert len(ids) == len(forms)
    assert all(sum(bool(re.fullmatch(form, found)) for found in ids) == 1 for form in forms)


def test_items_of_messages_and_reasoning(server: Running) -> None:
    (item,) = server.http.post("/v1/responses", json={"input": "Hi", "max_output_tokens": 3}).json()["output"]
    assert re.fullmatch("msg_[0-9a-f]{24}_0", item["id"])


@pytest.mark.parametrize("id", ["toolu_01A09q90qw90lq917835lq9", "call_1", "fc-7", "9", "chatcmpl-tool-x", "é" * 40])
def test_calls_of_other_services_are_read(server: Running, id: str) -> None:  # noqa: A002
    use = {"type": "tool_use", "id": id, "name": "turn", "input": {}}
    turns = [*HI, {"role": "assistant", "content": [use]}]
    turns += [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "done"}]}]
    assert server.http.post("/v1/messages", json={"messages": turns, "max_tokens": 1}).status_code == 200
    call = {"id": id, "type": "function", "function": {"name": "turn", "arguments": "{}"}}
    messages = [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": id, "content": "done"}]
    assert server.http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1}).status_code == 200
    items = [*HI, {"type": "function_call", "call_id": id, "name": "turn", "arguments": "{}"}]
    items += [{"type": "function_call_output", "call_id": id, "output": "done"}]
    assert server.http.post("/v1/responses", json={"input": items, "max_output_tokens": 1}).status_code == 200


def test_ids_are_what_mistrals_templates_accept() -> None:
    """They refuse any that has not nine letters or digits; the model's own come back as it wrote them."""
    assert [template_id(one) for one in ("aB3dE6gH9", "toolu_aB3dE6gH9", "call_aB3dE6gH9")] == ["aB3dE6gH9"] * 3
    others = ["toolu_01A09q90qw90lq917835lq9", "call_1", "", "é", "abcdefghi_", "a b c d e"]
    made = [template_id(one) for one in others]
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", one) for one in made)
    assert len(set(made)) == len(others)
    assert made == [template_id(one) for one in others]


def test_a_result_keeps_the_id_of_its_call_in_mistrals_templates_alone() -> None:
    call = {"id": "toolu_long_1", "type": "function", "function": {"name": "turn", "arguments": {}}}
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_long_1", "content": "x"},
    ]
    before = json.dumps(messages)
    _, turn, result = with_template_ids("{{ '[TOOL_CALLS]' }}", messages)
    assert turn["tool_calls"][0]["id"] == result["tool_call_id"] == template_id("toolu_long_1")
    assert json.dumps(messages) == before, "the client's own messages stay as they are"
    assert with_template_ids("{{ '<tool_call>' }}", messages) is messages
