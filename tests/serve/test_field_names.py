"""Errors name the fields that the client sent, in every API that is translated into chats."""

from __future__ import annotations

from typing import Any

import pytest

from orcinus.core.request import Finish, FinishCode
from orcinus.serve.answers import Answers, ChoiceDelta
from orcinus.serve.dialects.chat_tools import with_allowed_tools
from orcinus.serve.dialects.field_names import FieldNames
from orcinus.serve.dialects.messages_chat import to_chat
from orcinus.serve.dialects.messages_schema import MessagesBody
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.errors import ApiError
from orcinus.serve.schema import ChatBody
from orcinus.serve.structured_output_fields import wanted_form
from tests.serve.test_messages_bodies import CLOCK
from tests.serve.test_messages_bodies import read as read_message
from tests.serve.test_messages_errors import send, service
from tests.serve.test_responses_input import SHELL
from tests.serve.test_responses_input import read as read_response

HI = [{"role": "user", "content": "Hi"}]
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
BAD = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}  # what llguidance cannot express
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI},
    COMPLETION: {"prompt": "Hi"},
    RESPONSES: {"input": "Hi"},
    MESSAGES: {"messages": HI, "max_tokens": 5},
}
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"max_completion_tokens": 5000}, "max_completion_tokens"),
    (CHAT, {"max_tokens": 5000}, "max_tokens"),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": BAD}}}, "response_format.json_schema.schema"),
    (CHAT, {"response_format": {"type": "json_object", "schema": BAD}}, "response_format.schema"),
    (CHAT, {"guided_json": BAD}, "guided_json"),
    (CHAT, {"structured_outputs": {"json": BAD}}, "structured_outputs.json"),
    (CHAT, {"n": 100}, "n"),
    (COMPLETION, {"prompt": ["Hi"] * 20}, "prompt"),
    (COMPLETION, {"prompt": ["Hi"] * 2, "n": 20}, "n"),
    (RESPONSES, {"max_output_tokens": 5000}, "max_output_tokens"),
    (RESPONSES, {"input": "word " * 5000}, "input"),
    (RESPONSES, {"text": {"format": {"type": "json_schema", "name": "a", "schema": BAD}}}, "text.format.schema"),
    (RESPONSES, {"tool_choice": "required"}, "tool_choice"),
    (RESPONSES, {"tools": [SHELL | {"strict": True, "parameters": {"type": "a"}}]}, "tools[0].parameters"),
    (MESSAGES, {"output_format": {"type": "json_schema", "schema": BAD}}, "output_format.schema"),
    (MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": BAD}}}, "output_config.format.schema"),
    (MESSAGES, {"tools": [CLOCK, CLOCK]}, "tools.1.name"),
    (MESSAGES, {"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
    (MESSAGES, {"tool_choice": {"type": "any"}}, "tool_choice"),
    (MESSAGES, {"tools": [CLOCK | {"input_schema": {"type": "a"}}]}, "tools.0.input_schema"),
]


@pytest.mark.parametrize(("path", "fields", "param"), WRONG, ids=[f"{path} {param}" for path, _, param in WRONG])
def test_an_error_names_the_field_that_was_sent(path: str, fields: dict[str, Any], param: str) -> None:
    answer = send(service(max_queue=16), "POST", path, json=BODIES[path] | fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    others = {"max_tokens", "max_completion_tokens", "max_output_tokens", "response_format", "output_config"} - {
        param.split(".")[0]
    }
    assert not [other for other in others if other in error["message"]], error["message"]
    if path == MESSAGES:
        assert error["message"].startswith(f"{param}: ")
    else:
        assert error["param"] == param


def test_a_call_that_must_come_without_tools_is_told_in_the_words_of_no_api() -> None:
    for path, choice in ((CHAT, "required"), (RESPONSES, "required"), (MESSAGES, {"type": "any"})):
        answer = send(service(), "POST", path, json=BODIES[path] | {"tool_choice": choice})
        told = "tool_choice: there are no tools of which one could be called: give some in tools"
        assert answer.json()["error"]["message"] == told


def message_names(**fields: Any) -> tuple[ChatBody, FieldNames]:
    return to_chat(read_message(**fields)[0])


EVERYTHING: dict[str, Any] = {
    "model": "m",
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "stream": True,
    "stop_sequences": ["a"],
    "metadata": {"user_id": "u"},
    "thinking": {"type": "enabled", "budget_tokens": 5},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "tools": [CLOCK],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "messages": [*HI, {"role": "assistant", "content": "A"}],
}


def test_every_field_of_a_message_that_becomes_one_of_a_chat_has_a_name() -> None:
    body, names = message_names(**EVERYTHING)
    made = {name for name in body.model_fields_set if getattr(body, name) is not None}
    assert made > {"stop", "user", "thinking_token_budget", "parallel_tool_calls", "response_format", "continue_final_message"}
    for name in made:
        assert names.find(name).split(".")[0] in MessagesBody.model_fields, name


NAMES_OF_MESSAGES = {
    "stop[0]": "stop_sequences[0]",
    "user": "metadata.user_id",
    "thinking_token_budget": "thinking.budget_tokens",
    "chat_template_kwargs.enable_thinking": "thinking.enable_thinking",
    "reasoning_effort": "output_config.effort",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "tool_choice.function.name": "tool_choice.name",
    "response_format.json_schema.schema": "output_config.format.schema",
    "tools[0].function.parameters": "tools[0].input_schema",
    "tools[0].function.name": "tools[0].name",
    "continue_final_message": "messages.1",
    "messages[1].content": "messages.1.content",
    "max_tokens": "max_tokens",
}


@pytest.mark.parametrize("field", NAMES_OF_MESSAGES)
def test_names_of_messages(field: str) -> None:
    _, names = message_names(**EVERYTHING)
    assert names.find(field) == NAMES_OF_MESSAGES[field]
    told = names.translate(ApiError(400, f"{field}: is wrong", param=field)).message
    assert told == NAMES_OF_MESSAGES[field].replace("[0]", ".0") + ": is wrong"


def test_every_field_of_a_response_that_becomes_one_of_a_chat_has_a_name() -> None:
    body = {
        "instructions": "A",
        "input": "Hi",
        "max_output_tokens": 5,
        "stream": True,
        "stop": "a",
        "reasoning": {"effort": "low"},
        "include": ["message.output_text.logprobs"],
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {}}},
        "tools": [SHELL],
        "tool_choice": {"type": "function", "name": "shell"},
        "parallel_tool_calls": False,
        "user": "u",
    }
    found = read_response(body)
    made = {name for name in found.body.model_fields_set if getattr(found.body, name) is not None}
    assert made > {"messages", "max_completion_tokens", "response_format", "reasoning_effort", "logprobs"}
    for name in made:
        assert found.names.find(name).split(".")[0] in ResponsesBody.model_fields, name
    assert found.names.find("tool_choice.function.name") == "tool_choice.name"
    assert found.names.find("reasoning_effort") == "reasoning.effort"
    assert found.names.find("logprobs") == "include"
    assert found.names.find("messages[0].content") == "instructions"


def test_values_and_words_stay_as_they_are() -> None:
    names = FieldNames({"messages": "input", "max_tokens": "max_output_tokens", "stop": "stop_sequences"})
    error = ApiError(400, "messages: 'max_tokens' is no name, and \"stop\" ends two messages; stop: is max_tokens long")
    assert names.translate(error).message == (
        "input: 'max_tokens' is no name, and \"stop\" ends two messages; stop_sequences: is max_output_tokens long"
    )


def test_a_grammar_that_explodes_later_is_named_by_the_clients_field() -> None:
    body, names = message_names(output_format={"type": "json_schema", "schema": {}})
    answers = Answers(None, body, [], None, names)  # type: ignore[arg-type]
    assert answers.form == wanted_form(body)
    ending = ChoiceDelta(0, finish_reason=Finish.FAILED, error="too many items", code=FinishCode.BAD_GRAMMAR)
    assert answers._failure(ending).param == "output_format.schema"


def test_a_chats_names_are_its_own() -> None:
    _, names = with_allowed_tools(ChatBody.model_validate({"messages": HI, "max_completion_tokens": 5}))
    assert names.find("max_tokens") == "max_completion_tokens"
    _, names = with_allowed_tools(ChatBody.model_validate({"messages": HI, "max_tokens": 5}))
    assert names.own == {}
