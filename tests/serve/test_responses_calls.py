"""Calls of tools and forms of answers from a real server: forced by a grammar, since a small model would not call by itself."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.serve.conftest import Running
from tests.serve.test_responses import create, kinds, stream, without_times
from tests.serve.test_responses_output import gathered

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "name": "weather", "description": "The weather.", "parameters": PARAMETERS, "strict": True}
MAPS = {"type": "namespace", "name": "mcp__maps__", "tools": [WEATHER | {"name": "find"}]}
ASKED = {"input": "How is the weather in Rome?", "parallel_tool_calls": False, "max_output_tokens": 80}


@pytest.mark.parametrize(
    ("tools", "choice", "named"),
    [
        ([WEATHER], "required", {"name": "weather"}),
        ([MAPS, WEATHER], {"type": "function", "name": "find"}, {"name": "find", "namespace": "mcp__maps__"}),
    ],
)
def test_a_function_is_called(server: Running, tools: list[Any], choice: Any, named: dict[str, str]) -> None:
    fields = ASKED | {"tools": tools, "tool_choice": choice}
    whole = create(server, **fields)
    (call,) = whole["output"]
    assert (whole["status"], call["type"], call["status"]) == ("completed", "function_call", "completed")
    assert {name: call[name] for name in ("name", "namespace") if name in call} == named
    assert json.loads(call["arguments"])["city"] in ("Paris", "Rome")
    assert call["call_id"]
    events = stream(server, **fields)
    assert kinds(events)[2:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    final = events[-1]["response"]
    assert gathered(events) == final["output"]
    for response in (whole, final):
        response["output"][0].pop("call_id")
    assert without_times(final) == without_times(whole)


def test_the_output_of_a_call_is_read(server: Running) -> None:
    first = create(server, **ASKED, tools=[WEATHER], tool_choice="required")
    (call,) = first["output"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny."}
    fields: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "none", "max_output_tokens": 10}
    sent = create(server, **fields, input=[{"role": "user", "content": ASKED["input"]}, call, output])
    named = create(server, **fields, input=[output], previous_response_id=first["id"])
    assert [item["type"] for item in sent["output"]] == ["message"]
    assert named["output"][0]["content"] == sent["output"][0]["content"]
    assert named["usage"]["input_tokens"] == sent["usage"]["input_tokens"]


def test_a_custom_tool_is_called_with_a_text(server: Running) -> None:
    fields: dict[str, Any] = {
        "input": "Write a note.",
        "tools": [{"type": "custom", "name": "note"}],
        "tool_choice": {"type": "custom", "name": "note"},
        "max_output_tokens": 40,
    }
    events = stream(server, **fields)
    final = events[-1]["response"]
    (call,) = final["output"]
    assert (call["type"], call["name"]) == ("custom_tool_call", "note")
    assert call["input"]
    assert "".join(event["delta"] for event in events if event["type"].endswith("input.delta")) == call["input"]
    assert create(server, **fields)["output"][0]["input"] == call["input"]
    assert gathered(events) == final["output"]


def test_a_call_that_is_cut_is_incomplete(server: Running) -> None:
    found = create(server, **ASKED | {"max_output_tokens": 4}, tools=[WEATHER], tool_choice="required")
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert all(item["status"] == "incomplete" for item in found["output"])


class Mood(BaseModel):
    """What an answer says."""

    mood: Literal["calm", "merry"]
    sure: bool


def test_the_sdk_parses_an_answer_in_a_form(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        found = client.responses.parse(model="orcinus-tiny", input="Hi", text_format=Mood, temperature=0, max_output_tokens=60)
    assert isinstance(found.output_parsed, Mood)
    assert found.text is not None
    assert found.text.format is not None
    assert found.text.format.type == "json_schema"


def test_a_json_object(server: Running) -> None:
    found = create(server, input="Hi", text={"format": {"type": "json_object"}}, max_output_tokens=50)
    answer = found["output"][0]["content"][0]["text"]
    assert answer.lstrip().startswith("{")
    assert found["status"] == "incomplete" or isinstance(json.loads(answer), dict)


def test_a_schema_that_cannot_be_used_is_named(server: Running) -> None:
    form = {"type": "json_schema", "name": "a", "schema": {"type": "teapot"}}
    error = create(server, status=400, input="Hi", text={"format": form})["error"]
    assert error["param"] == "text.format.schema"
    assert "response_format" not in error["message"]


def test_a_tool_whose_schema_cannot_be_used_is_named(server: Running) -> None:
    tools = [
        {"type": "web_search"},
        WEATHER,
        MAPS | {"tools": [WEATHER, WEATHER | {"name": "b", "parameters": {"type": "teapot"}}]},
    ]
    error = create(server, status=400, input="Hi", tools=tools)["error"]
    assert error["param"] == "tools[2].tools[1].parameters"
    assert (
        error["message"]
        == "tools[2].tools[1].parameters: the type must be 'object', because arguments have names; it is 'teapot'"
    )
