"""Checks of `POST /v1/responses`, OpenAI's Responses API."""

from __future__ import annotations

from typing import Any

from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.response_events import ENDINGS, check_events, texts_of
from orcinus.conformance.shapes import expect_error
from orcinus.conformance.structured_output import SCHEMA, weather
from orcinus.conformance.target import Json, ServerUnderTest, granted
from orcinus.conformance.tools import FUNCTIONS, function_called
from orcinus.conformance.verdict import Skip, expect, expect_equal

RESPONSES = "/v1/responses"
HELLO: Json = {"input": "Hi", "temperature": 0, "max_output_tokens": 16, "store": False}  # OpenAI takes no fewer
STORY: Json = HELLO | {"input": "Tell me a story about a fox."}
TOOLS: list[Json] = [{"type": "function", "strict": True, **one} for one in FUNCTIONS]
CALLING: Json = HELLO | {
    "input": "What is the weather in Rome?",
    "tools": TOOLS,
    "tool_choice": "required",
    "max_output_tokens": 256,
}
NAMED: Json = {"type": "function", "name": "forecast"}
BOUND: Json = HELLO | {
    "text": {"format": {"type": "json_schema", "name": "weather", "schema": SCHEMA, "strict": True}},
    "max_output_tokens": 256,
}


def _needs_responses(target: ServerUnderTest) -> None:
    if target.lacks(RESPONSES, HELLO):
        raise Skip("the server has no /v1/responses")


def respond(target: ServerUnderTest, body: Json) -> Json:
    """A response. Raises `Skip` if the server has none, or not what the body asks for."""
    _needs_responses(target)
    return granted(target.post(RESPONSES, body))


def stream(target: ServerUnderTest, body: Json) -> Json:
    """The response that a stream ends with, after checking all of its events."""
    _needs_responses(target)
    return check_events(target.events(RESPONSES, body))


def _calls(response: Json) -> list[Json]:
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    expect(calls, f"no function_call in {[item['type'] for item in response['output']]}")
    for call in calls:
        function_called(call["name"], call["arguments"])
        expect(isinstance(call["call_id"], str) and call["call_id"], f"call_id is {call['call_id']!r}")
    return calls


@check("responses: an object with a message in its output")
def _object(target: ServerUnderTest) -> None:
    found = respond(target, HELLO)
    expect_equal(found["object"], "response", "object")
    expect(found["status"] in ENDINGS, f"status is {found['status']!r}")
    expect(texts_of(found), "the output has no text")
    message = next(item for item in found["output"] if item["type"] == "message")
    expect_equal(message["role"], "assistant", "the role")
    ids = [found["id"], *(item["id"] for item in found["output"])]
    expect(all(isinstance(one, str) and one for one in ids) and len({*ids}) == len(ids), f"the ids are {ids}")


@check("responses: text, a message and text parts are the same input")
def _inputs(target: ServerUnderTest) -> None:
    text = "Tell me a story about a fox."
    contents: tuple[Any, ...] = (text, [{"type": "input_text", "text": text}])
    messages = [[{"role": "user", "content": one}] for one in contents]
    wanted = texts_of(respond(target, STORY))
    for given in (*messages, [{"type": "message", **messages[1][0]}]):
        expect_equal(texts_of(respond(target, STORY | {"input": given})), wanted, "the text")


@check("responses: max_output_tokens is kept, and the response is incomplete")
def _cut(target: ServerUnderTest) -> None:
    found = respond(target, STORY)
    if found["status"] == "completed":
        raise Skip("the model ends by itself")
    expect_equal(found["usage"]["output_tokens"], 16, "output_tokens")
    expect_equal(found["incomplete_details"], {"reason": "max_output_tokens"}, "incomplete_details")


@check("responses: usage adds up")
def _usage(target: ServerUnderTest) -> None:
    usage = respond(target, STORY)["usage"]
    expect(usage["input_tokens"] > 0 and usage["output_tokens"] > 0, f"usage is {usage}")
    expect_equal(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"], "total_tokens")
    expect(0 <= usage["input_tokens_details"]["cached_tokens"] <= usage["input_tokens"], f"usage is {usage}")
    expect(0 <= usage["output_tokens_details"]["reasoning_tokens"] <= usage["output_tokens"], f"usage is {usage}")


@check("responses: instructions are part of the prompt")
def _instructions(target: ServerUnderTest) -> None:
    plain, told = (respond(target, HELLO | more)["usage"]["input_tokens"] for more in ({}, {"instructions": "Be brief. " * 9}))
    expect(told > plain, f"{told} input tokens with instructions, {plain} without")


@check("responses: a stream's events are in order and add up to the response")
def _events(target: ServerUnderTest) -> None:
    for body in (HELLO, STORY):
        found, whole = stream(target, body), respond(target, body)
        expect_equal(texts_of(found), texts_of(whole), "the text of the stream")
        for name in ("input_tokens", "output_tokens"):
            expect_equal(found["usage"][name], whole["usage"][name], name)


@check("responses: required gives a function call with arguments of the schema")
def _required(target: ServerUnderTest) -> None:
    found = respond(target, CALLING)
    _calls(found)
    expect_equal(found["status"], "completed", "status")


@check("responses: a named function is the one that is called")
def _named(target: ServerUnderTest) -> None:
    names = [call["name"] for call in _calls(respond(target, CALLING | {"tool_choice": NAMED}))]
    expect_equal(names, ["forecast"], "the functions")


@check("responses: parallel_tool_calls false gives one call")
def _one(target: ServerUnderTest) -> None:
    for _ in range(3):
        found = respond(target, CALLING | {"parallel_tool_calls": False, "temperature": 1.5})
        expect_equal(len(_calls(found)), 1, "the number of calls")


@check("responses: a streamed function call is the whole one")
def _streamed_call(target: ServerUnderTest) -> None:
    whole = _calls(respond(target, CALLING))
    found = _calls(stream(target, CALLING))
    pairs = [[(call["name"], call["arguments"]) for call in calls] for calls in (found, whole)]
    expect_equal(pairs[0], pairs[1], "the calls of the stream")


@check("responses: calls can be sent back with their outputs")
def _outputs(target: ServerUnderTest) -> None:
    found = respond(target, CALLING)
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"} for call in _calls(found)
    ]  # fmt: skip
    history = [{"role": "user", "content": CALLING["input"]}, *found["output"], *outputs]
    last = respond(target, CALLING | {"input": history, "tool_choice": "auto", "max_output_tokens": 16})
    expect(last["usage"]["input_tokens"] > found["usage"]["input_tokens"], "the history is not part of the prompt")


@check("responses: text.format json_schema gives what the schema says")
def _schema(target: ServerUnderTest) -> None:
    weather("".join(texts_of(respond(target, BOUND))))
    weather("".join(texts_of(stream(target, BOUND))))


@check("responses: an unknown field is taken or refused")
def _unknown(target: ServerUnderTest) -> None:
    _needs_responses(target)
    answer = target.post(RESPONSES, HELLO | {"wibble": 1})
    expect(answer.status_code in (200, 400), f"status {answer.status_code}")


USER: Json = {"role": "user", "content": "Hi"}
IMAGE: Json = {"type": "input_image", "image_url": "http://127.0.0.1:9/cat.png"}
CALL: Json = {"type": "function_call", "call_id": "c", "name": "time", "arguments": "{}"}
OUTPUT: Json = {"type": "function_call_output", "call_id": "no-such-call", "output": "x"}
# name, field, body, whether only Orcinus must refuse it
REFUSED: list[tuple[str, str | None, Json, bool]] = [
    ("a number as input", "input", {"input": 5}, False),
    ("a string as an item", "input", {"input": ["Hi"]}, False),
    ("an item of an unknown type", "input", {"input": [USER, {"type": "wibble"}]}, False),
    ("an unknown role", "input", {"input": [{"role": "wizard", "content": "Hi"}]}, False),
    ("a number as content", "input", {"input": [{"role": "user", "content": 5}]}, False),
    ("an image", "input", {"input": [{"role": "user", "content": [IMAGE]}]}, True),
    ("the output of an unknown call", None, {"input": [USER, OUTPUT]}, True),
    ("an output before its call", None, {"input": [USER, OUTPUT | {"call_id": "c"}, CALL]}, True),
    ("a call without arguments", "input", {"input": [USER, {"type": "function_call", "call_id": "c", "name": "time"}]}, False),
    ("a number as instructions", "instructions", {"instructions": 5}, False),
    ("max_output_tokens 0", "max_output_tokens", {"max_output_tokens": 0}, False),
    ("max_output_tokens 'many'", "max_output_tokens", {"max_output_tokens": "many"}, False),
    ("temperature 5", "temperature", {"temperature": 5}, False),
    ("stream 'yes'", "stream", {"stream": "yes"}, False),
    ("text.format json_schema without a schema", "text", {"text": {"format": {"type": "json_schema", "name": "x"}}}, False),
    ("an unknown text.format", "text", {"text": {"format": {"type": "xml"}}}, False),
    ("a string as tools", "tools", {"tools": "look"}, False),
    ("a function without a name", "tools", {"tools": [{"type": "function", "parameters": {}}]}, False),
    ("a function's name of control characters", "tools", {"tools": [{"type": "function", "name": "a\n\u0000"}]}, False),
    ("a list as parameters", "tools", {"tools": [TOOLS[0] | {"parameters": ["city"]}]}, False),
    ("two tools of one name", "tools", {"tools": [TOOLS[0], TOOLS[0]]}, True),
    ("tool_choice of an unknown function", None, {"tools": TOOLS, "tool_choice": NAMED | {"name": "no"}}, False),
    ("tool_choice required without tools", None, {"tool_choice": "required"}, False),
    ("a number as tool_choice", "tool_choice", {"tools": TOOLS, "tool_choice": 5}, False),
    ("an object without a type as tool_choice", "tool_choice", {"tools": TOOLS, "tool_choice": {}}, False),
    ("background", None, {"background": True}, True),
]  # fmt: skip


def _refused(param: str | None, fields: Json) -> Body:
    def body(target: ServerUnderTest) -> None:
        _needs_responses(target)
        target.remember()
        expect_error(target.post(RESPONSES, HELLO | fields), 400, param)
        target.unharmed()

    return body


for _name, _param, _fields, _ours in REFUSED:
    add(Check(f"responses: {_name} is 400", _refused(_param, _fields), _ours))


@check("responses: an unknown previous_response_id is 404 or 400")
def _previous(target: ServerUnderTest) -> None:
    _needs_responses(target)
    answer = target.post(RESPONSES, HELLO | {"previous_response_id": "resp_no_such_response"})
    expect_error(answer, {400, 404}, "previous_response_id")


@check("responses: an unknown model is 404")
def _model(target: ServerUnderTest) -> None:
    _needs_responses(target)
    expect_error(target.post(RESPONSES, HELLO | {"model": "no-such-model"}), 404)
