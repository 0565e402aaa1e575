"""Bodies of /v1/responses as chats: items, tools and options, and errors under the client's own names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orcinus.serve.body import parse
from orcinus.serve.dialects.responses_history import read_items
from orcinus.serve.dialects.responses_input import ResponsesChat, open_reasoning, seal_reasoning, to_chat
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.errors import ApiError
from orcinus.serve.response_store import ResponseStore
from orcinus.serve.validation import check_fields

SHELL = {"type": "function", "name": "shell", "description": "Runs a command.", "parameters": {"type": "object"}}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Changes files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'},
}
DOCS = {
    "type": "namespace",
    "name": "mcp__docs__",
    "description": "The handbook.",
    "tools": [
        {"type": "function", "name": "search", "description": "Finds pages.", "strict": False},
        {"type": "function", "name": "read", "parameters": {"type": "object"}},
    ],
}


def read(body: dict[str, Any], store: ResponseStore | None = None) -> ResponsesChat:
    """The chat of a body, by all that checks it before the engine does."""
    found = parse(json.dumps(body).encode(), ResponsesBody)
    check_fields(found, strict=False)
    items = read_items(found, store or ResponseStore(), "")
    return to_chat(found, [(one.place, one.item) for one in items])


def messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [one.model_dump(exclude_none=True) for one in read(body).body.messages]


def refusal(body: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(body)
    return caught.value


def test_a_string_is_what_the_user_says() -> None:
    assert messages({"input": "Hi"}) == [{"role": "user", "content": "Hi"}]
    assert messages({"input": "Hi", "instructions": "Be brief."}) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_parts_of_a_message_are_one_text() -> None:
    parts = [{"type": "input_text", "text": "Hi "}, {"type": "input_text", "text": "there"}]
    said = [{"type": "output_text", "text": "Hel", "annotations": [], "logprobs": []}, {"type": "refusal", "refusal": "lo"}]
    found = messages({"input": [{"role": "user", "content": parts}, {"type": "message", "role": "assistant", "content": said}]})
    assert [one["content"] for one in found] == ["Hi there", "Hello"]


def test_instructions_and_the_developers_first_messages_are_one_system_message() -> None:
    found = messages(
        {
            "instructions": "A",
            "input": [
                {"role": "developer", "content": "B"},
                {"role": "user", "content": "Hi"},
                {"role": "developer", "content": "C"},
            ],
        }
    )
    assert found == [
        {"role": "system", "content": "A\n\nB"},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "C"},
    ]


def test_a_stored_call_of_any_name_is_continued() -> None:
    """A model may have written a name that no tool has."""
    store = ResponseStore()
    call = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "x" * 2000, "arguments": "{", "status": "incomplete"}
    store.add("", {"id": "resp_1", "output": [call]}, [])
    output = {"type": "function_call_output", "call_id": "c", "output": "no such tool"}
    message, _ = read({"previous_response_id": "resp_1", "input": [output]}, store).body.messages
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.name == "x" * 2000


def test_a_stored_call_without_output_is_named_by_the_field_that_brought_it() -> None:
    store = ResponseStore()
    call = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "x", "arguments": "{}"}
    store.add("", {"id": "resp_1", "output": [call]}, [])
    with pytest.raises(ApiError, match="previous_response_id: there is no output of the calls 'c'") as caught:
        read({"previous_response_id": "resp_1", "input": "Hi"}, store)
    assert caught.value.param == "previous_response_id"


def test_reasoning_comes_back_sealed() -> None:
    sealed = seal_reasoning("Ich überlege.")
    assert open_reasoning(sealed) == "Ich überlege."
    item = {"type": "reasoning", "summary": [], "encrypted_content": sealed}
    question = {"role": "user", "content": "Hi"}
    assert messages({"input": [question, item]})[1] == {"role": "assistant", "reasoning_content": "Ich überlege."}
    foreign = read({"input": [question, item | {"encrypted_content": "gAAAAB"}]})
    assert len(foreign.body.messages) == 1
    assert foreign.warnings == ["input[1].encrypted_content: it is not of this server and was left out"]


USER = {"role": "user", "content": "Hi"}
IMAGE = {"type": "input_image", "image_url": "http://169.254.169.254/x.png"}


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"input": 3}, "input", "must be"),
        ({"input": [3]}, "input[0]", "must be an object"),
        ({"input": [{"type": "teapot"}]}, "input[0].type", "'message', 'function_call'"),
        ({"input": [{"role": "wizard", "content": "Hi"}]}, "input[0].role", "must be"),
        ({"input": [{"role": "user"}]}, "input[0].content", "is required"),
        ({"input": [{"role": "user", "content": None}]}, "input[0].content", "must be"),
        ({"input": [USER, {"role": "user", "content": [IMAGE]}]}, "input[1].content[0].type", "no images"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id", "is required"),
        ({"input": [USER, {"type": "function_call_output", "call_id": "1", "output": "x"}]}, "input[1].call_id", "no call"),
        ({"input": [{"id": "msg_1", "type": "item_reference"}]}, "input[0].id", "store: false"),
        ({"input": [{"id": "msg_1"}]}, "input[0].id", "store: false"),
        ({"input": "Hi", "previous_response_id": "resp_1"}, "previous_response_id", "send the whole input"),
        ({"input": "Hi", "conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"input": "Hi", "background": True}, "background", "use stream"),
        ({"input": "Hi", "prompt": {"id": "pmpt_1"}}, "prompt", "instructions"),
        ({"input": "Hi", "context_management": [{"type": "compaction"}]}, "context_management", "truncation"),
        ({"messages": [USER]}, "messages", "use input"),
        ({"input": "Hi", "response_format": {"type": "json_object"}}, "response_format", "text: {format}"),
        ({"input": "Hi", "max_tokens": 5}, "max_tokens", "max_output_tokens"),
        ({"input": "Hi", "n": 2}, "n", "/v1/chat/completions"),
        ({"input": "Hi", "mirostat": 2}, "mirostat", "use temperature"),
        ({"input": "Hi", "max_output_tokens": 0}, "max_output_tokens", "at least 1"),
        ({"input": "Hi", "temperature": 3}, "temperature", "at most 2"),
        ({"input": "Hi", "stream": "yes"}, "stream", "true or false"),
        ({"input": "Hi", "top_logprobs": 21}, "top_logprobs", "at most 20"),
        ({"input": "Hi", "include": ["everything"]}, "include[0]", "must be"),
        ({"input": "Hi", "metadata": {"a": 1}}, "metadata.a", "must be a string"),
        ({"input": "Hi", "truncation": "middle"}, "truncation", "must be"),
        ({"input": "Hi", "reasoning": {"effort": "enormous"}}, "reasoning.effort", "must be"),
        ({"input": "Hi", "text": {"format": {"type": "xml"}}}, "text.format.type", "must be"),
        ({"input": "Hi", "text": {"format": {"type": "json_schema"}}}, "text.format.schema", "is required"),
        ({"input": "Hi", "tools": [{"name": "f"}]}, "tools[0].type", "is required"),
        ({"input": "Hi", "tools": [{"type": "function"}]}, "tools[0].name", "is required"),
        ({"input": "Hi", "tools": [SHELL | {"name": "a b"}]}, "tools[0].name", "must match"),
        ({"input": "Hi", "tools": [SHELL, SHELL]}, "tools[1].name", "another tool"),
        ({"input": "Hi", "tools": [DOCS | {"tools": [{"type": "function"}]}]}, "tools[0].tools[0].name", "is required"),
        ({"input": "Hi", "tools": [SHELL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name", "no such"),
        ({"input": "Hi", "tools": [SHELL], "tool_choice": {"type": "web_search"}}, "tool_choice.type", "must be"),
        ({"input": "Hi", "tools": [SHELL], "tool_choice": "sometimes"}, "tool_choice", "must be"),
        ({"input": "Hi", "stream_options": {"include_obfuscation": True}}, "stream_options", "needs stream"),
    ],
)
def test_wrong_bodies_name_the_clients_own_field(body: dict[str, Any], param: str, message: str) -> None:
    error = refusal(body)
    assert (error.param, error.status) == (param, 404 if param == "previous_response_id" else 400)
    assert message in error.message
