"""Bodies of Anthropic's Messages API by themselves: as chats, and the messages about their mistakes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orcinus.core.sampling_params import DefaultLength
from orcinus.serve.body import parse
from orcinus.serve.chat_encoder import template_messages
from orcinus.serve.dialects.messages_chat import to_chat
from orcinus.serve.dialects.messages_schema import CountTokensBody, MessagesBody
from orcinus.serve.errors import ApiError
from orcinus.serve.object_schema import Object
from orcinus.serve.schema import ChatBody
from orcinus.serve.structured_output_fields import wanted_form
from orcinus.serve.tool_fields import choice_of
from orcinus.serve.validation import check_fields

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
CLOCK = {"name": "clock", "description": "The time.", "input_schema": {"type": "object", "properties": {"zone": {}}}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {"zone": "UTC"}}
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://169.254.0.1/"}}


def said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def read(kind: type[Object] = MessagesBody, *, strict: bool = False, **fields: Any) -> tuple[Any, list[str]]:
    start: dict[str, Any] = {"messages": HI} | ({"max_tokens": 5} if kind is MessagesBody else {})
    body = parse(json.dumps(start | fields).encode(), kind)
    return body, check_fields(body, strict=strict)


def chat(**fields: Any) -> ChatBody:
    return to_chat(read(**fields)[0])[0]


def conversation(**fields: Any) -> list[dict[str, Any]]:
    """What the chat template is given."""
    return template_messages(chat(**fields).messages)


def checked(**fields: Any) -> None:
    """Raise what a route would before the model sees the body."""
    body, names = to_chat(read(**fields)[0])
    try:
        choice_of(body)
    except ApiError as error:
        raise names.translate(error) from None


def refusal(**fields: Any) -> str:
    with pytest.raises(ApiError) as caught:
        checked(**fields)
    assert caught.value.status == 400
    return caught.value.message


# The conversation


def test_a_system_prompt_is_the_first_message() -> None:
    system = {"role": "system", "content": "Be brief.\n\nBe kind."}
    assert conversation(system="Be brief.\n\nBe kind.") == [system, *HI]
    assert conversation(system=[said("Be brief."), {**said("Be kind."), "cache_control": {"type": "ephemeral"}}])[0] == system
    assert conversation(system="") == conversation(system=[]) == HI


def test_the_billing_header_of_claude_code_is_left_out() -> None:
    header = "x-anthropic-billing-header: cc_version=2.1.5; cch={};"
    system = [said("You are Claude Code."), said("Be brief.")]
    found = [conversation(system=[said(header.format(cch)), *system]) for cch in ("00000", "a1b2c")]
    assert found[0] == found[1] == conversation(system=system)
    assert conversation(system=header) == HI
    assert conversation(system=f"{header}\nBe brief.") == conversation(system="Be brief.")


def test_system_messages_stay_in_their_place() -> None:
    messages = [*HI, {"role": "assistant", "content": "Hello"}, {"role": "system", "content": [said("Be brief.")]}, *HI]
    found = conversation(system="Be kind.", messages=messages)
    assert [one["role"] for one in found] == ["system", "user", "assistant", "system", "user"]
    assert found[3]["content"] == "Be brief."


def test_blocks_of_text_are_paragraphs() -> None:
    messages = [{"role": "user", "content": [said("One."), said("Two.")]}]
    assert conversation(messages=messages) == [{"role": "user", "content": "One.\n\nTwo."}]


def test_messages_in_a_row_of_one_role_are_one() -> None:
    assert conversation(messages=[*HI, *HI]) == [{"role": "user", "content": "Hi\n\nHi"}]
    answer = {"role": "user", "content": [RESULT]}
    parts = [{"role": "assistant", "content": [CALL]}, {"role": "assistant", "content": "Well"}, answer]
    (found, _) = conversation(messages=parts)
    assert (found["content"], len(found["tool_calls"])) == ("Well", 1)


def test_calls_and_results_of_tools() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": [said("no such"), said("zone")], "is_error": True},
        {"type": "tool_result", "tool_use_id": "toolu_3"},
        said("Thanks"),
    ]
    calls = [said("Let me see."), CALL, {**CALL, "id": "toolu_2"}, {**CALL, "id": "toolu_3"}]
    found = conversation(messages=[*HI, {"role": "assistant", "content": calls}, {"role": "user", "content": results}])
    assert found[1]["content"] == "Let me see."
    assert [call["id"] for call in found[1]["tool_calls"]] == ["toolu_1", "toolu_2", "toolu_3"]
    assert found[1]["tool_calls"][0]["function"] == {"name": "clock", "arguments": {"zone": "UTC"}}
    assert found[2:] == [
        {"role": "tool", "content": "noon", "tool_call_id": "toolu_1"},
        {"role": "tool", "content": "Error: no such\n\nzone", "tool_call_id": "toolu_2"},
        {"role": "tool", "content": "", "tool_call_id": "toolu_3"},
        {"role": "user", "content": "Thanks"},
    ]


def test_earlier_reasoning_goes_back_to_the_model_unless_it_is_redacted() -> None:
    thought = {"type": "thinking", "thinking": "A greeting.", "signature": "x"}
    redacted = {"type": "redacted_thinking", "data": "x"}
    answer = {"role": "assistant", "content": [thought, redacted, said("Hello")]}
    found = conversation(messages=[*HI, answer, *HI])[1]
    assert found == {"role": "assistant", "content": "Hello", "reasoning_content": "A greeting."}


def test_an_answer_continues_the_last_message_of_the_assistant() -> None:
    prefill = [*HI, {"role": "assistant", "content": "Hel"}]
    assert chat(messages=prefill).continue_final_message is True
    assert not chat().continue_final_message
    for content in ([], "", [CALL]):
        told = refusal(messages=[*HI, {"role": "assistant", "content": content}])
        assert told.startswith("messages.1: the last message has no text to continue")


# Parameters


def test_sampling_parameters_go_under_their_own_names() -> None:
    found = chat(
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        stop_sequences=["a", "b"],
        stream=True,
        metadata={"user_id": "user_1"},
        model="m",
    )
    assert (found.model, found.max_tokens, found.temperature, found.top_p, found.top_k) == ("m", 9, 0.5, 0.9, 3)
    assert (found.stop, found.stream, found.user) == (["a", "b"], True, "user_1")


def test_max_tokens_yield_to_the_room_there_is() -> None:
    assert isinstance(chat(max_tokens=64_000).max_tokens, DefaultLength)


@pytest.mark.parametrize(
    ("thinking", "thinks", "budget"),
    [
        (None, False, None),
        ({"type": "disabled", "budget_tokens": 5}, False, None),
        ({"type": "between_tools"}, False, None),
        ({"type": "adaptive"}, True, None),
        ({"type": "enabled", "budget_tokens": 1024}, True, 1024),
    ],
)
def test_a_model_reasons_if_the_body_says_so(thinking: Any, thinks: bool, budget: int | None) -> None:
    found = chat(thinking=thinking)
    assert found.chat_template_kwargs is not None
    assert (found.chat_template_kwargs.enable_thinking, found.chat_template_kwargs.thinking) == (thinks, thinks)
    assert found.thinking_token_budget == budget


def test_tools_and_their_choice() -> None:
    found = chat(tools=[CLOCK])
    assert found.tools is not None
    function = found.tools[0].function
    assert (function.name, function.description) == ("clock", "The time.")
    assert function.parameters == CLOCK["input_schema"]
    assert found.tool_choice is None
    choices = {"auto": "auto", "any": "required", "none": "none"}
    assert {one: chat(tools=[CLOCK], tool_choice={"type": one}).tool_choice for one in choices} == choices
    named = chat(tools=[CLOCK], tool_choice={"type": "tool", "name": "clock", "disable_parallel_tool_use": True})
    assert named.parallel_tool_calls is False
    assert named.tool_choice.model_dump() == {"type": "function", "function": {"name": "clock"}}  # type: ignore[union-attr]


def test_an_answer_can_be_bound_to_a_schema() -> None:
    schema = {"type": "object"}
    wanted = {"type": "json_schema", "schema": schema}
    for fields in ({"output_config": {"format": wanted}}, {"output_format": wanted}):
        form = wanted_form(chat(**fields))
        assert form is not None
        assert json.loads(str(form.outputs.json)) == schema
    assert chat(output_config={"effort": "low"}).reasoning_effort == "low"


# Mistakes


def turn(*blocks: Any, role: str = "user") -> list[dict[str, Any]]:
    return [*HI, {"role": role, "content": list(blocks)}]


RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}
FORM: dict[str, Any] = {"type": "json_schema", "schema": {}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens: must be a whole number"),
    ({"max_tokens": 0}, "max_tokens: must be at least 1"),
    ({"messages": []}, "messages: must not be empty"),
    ({"messages": ["Hi"]}, "messages.0: must be an object"),
    ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages.0: the role must be 'user'"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: is required"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: must be a string"),
    ({"messages": turn(5)}, "messages.1.content.0: must be a block"),
    ({"messages": turn(said("x"), {"type": "text"})}, "messages.1.content.1.text: is required"),
    ({"messages": turn(IMAGE)}, "messages.1.content.0: a block of type 'image' cannot be used"),
    ({"messages": turn({"type": "document"})}, "messages.1.content.0: a block of type 'document' cannot be used"),
    ({"messages": turn(CALL)}, "messages.1.content.0: the type of a block must be 'text' or 'tool_result' here"),
    ({"messages": turn({**RESULT, "content": [IMAGE]})}, "messages.1.content.0.content.0: a block of type 'image'"),
    ({"messages": turn(RESULT)}, "messages.1.content.0.tool_use_id: the assistant's message before it has no"),
    ({"messages": turn({**CALL, "input": "UTC"}, role="assistant")}, "messages.1.content.0.input: must be an object"),
    ({"messages": turn({**CALL, "name": "a\nb"}, role="assistant")}, "messages.1.content.0.name: must match"),
    ({"system": [IMAGE]}, "system.0: a block of type 'image' cannot be used"),
    ({"temperature": 1.5}, "temperature: must be at most 1"),
    ({"top_k": -1}, "top_k: must be at least 0"),
    ({"top_p": 0}, "top_p: must be above 0"),
    ({"stop_sequences": ["a", ""]}, "stop_sequences.1: must not be empty"),
    ({"stop_sequences": ["a"] * 17}, "stop_sequences: must have at most 16 entries"),
    ({"stream": "yes"}, "stream: must be true or false"),
    ({"metadata": {"user_id": 5}}, "metadata.user_id: must be a string"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens: must be at least 1"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens: is required"),
    ({"tools": [{"name": "clock"}]}, "tools.0.input_schema: is required"),
    ({"tools": [{**CLOCK, "name": "a b"}]}, "tools.0.name: must match"),
    ({"tools": [CLOCK, CLOCK]}, "tools.1.name: 'clock' is the name of an earlier tool"),
    (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools.0.type: there is no tool of type 'web_search",
    ),
    ({"tools": [CLOCK] * 1025}, "tools: must have at most 1024 entries"),
    ({"tool_choice": {"type": "any"}}, "tool_choice: there are no tools of which one could be called"),
    ({"tools": [CLOCK], "tool_choice": {"type": "tool"}}, "tool_choice.name: is required"),
    ({"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name: 'x' is none of the tools"),
    ({"tools": [CLOCK], "tool_choice": "any"}, "tool_choice: must be an object"),
    ({"output_format": FORM, "output_config": {"format": FORM}}, "output_format: output_config.format asks for a form already"),
    ({"output_format": {"type": "json_schema"}}, "output_format.schema: is required"),
    ({"stop": ["a"]}, "stop: not supported; use stop_sequences"),
    ({"n": 2}, "n: not supported; it belongs to /v1/chat/completions"),
    ({"response_format": {"type": "json_object"}}, "response_format: not supported; use output_config.format"),
    ({"mcp_servers": [{"url": "http://x"}]}, "mcp_servers: not supported; this server runs no tools"),
    ({"guided_regex": "a"}, "guided_regex: not supported"),
]


@pytest.mark.parametrize(("fields", "told"), WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_named_by_the_bodys_own_field(fields: dict[str, Any], told: str) -> None:
    message = refusal(**fields)
    assert message.startswith(told)
    assert "[" not in message.partition(":")[0]


def test_a_missing_max_tokens_is_named_first() -> None:
    with pytest.raises(ApiError, match="max_tokens: is required"):
        parse(json.dumps({"messages": HI}).encode(), MessagesBody)
    assert parse(json.dumps({"messages": HI}).encode(), CountTokensBody)


def test_errors_of_the_chat_name_the_bodys_own_field() -> None:
    _, names = to_chat(read(tools=[CLOCK], system="x", messages=[*HI, *HI, {"role": "system", "content": "x"}])[0])

    def told(param: str, code: str = "invalid_value") -> str:
        return names.translate(ApiError(400, f"{param}: is wrong", param=param, code=code)).message

    assert told("messages[0].content") == "system.content: is wrong"
    assert told("messages[1].content") == "messages.0.content: is wrong"
    assert told("messages[2].content") == "messages.2.content: is wrong"
    assert told("tools[0].function.parameters") == "tools.0.input_schema: is wrong"
    assert told("thinking_token_budget") == "thinking.budget_tokens: is wrong"
    assert told("messages", "context_length_exceeded") == "prompt is too long: messages: is wrong"


# Other fields


def test_fields_that_change_no_answer_are_named() -> None:
    tool = {**CLOCK, "defer_loading": True, "eager_input_streaming": True}
    ignored = read(service_tier="auto", context_management={"edits": []}, tools=[tool], strict=True)[1]
    assert ignored == ["context_management", "service_tier", "tools.0.defer_loading", "tools.0.eager_input_streaming"]
    assert read(wibble=1)[1] == ["wibble"]
    with pytest.raises(ApiError, match="unknown: wibble"):
        read(wibble=1, strict=True)


def test_blocks_of_an_answer_can_be_sent_back() -> None:
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{**said("Hello"), "citations": None}, {**CALL, "caller": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1},
    }
    body, ignored = read(messages=[*HI, answer, {"role": "user", "content": [RESULT]}])
    assert to_chat(body)[0].messages[1].content == "Hello"
    assert ignored == [f"messages.1.{name}" for name in ("id", "model", "stop_reason", "type", "usage")]


@pytest.mark.parametrize("kind", [MessagesBody, CountTokensBody])
def test_cache_control_is_taken_wherever_anthropic_takes_it(kind: type[Object]) -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages = [
        {"role": "user", "content": [said("Hi") | mark]},
        {"role": "assistant", "content": [CALL | mark]},
        {"role": "user", "content": [RESULT | mark]},
    ]
    found = read(kind, messages=messages, system=[said("x") | mark], tools=[CLOCK | mark], strict=True, **mark)
    assert found[1] == []
