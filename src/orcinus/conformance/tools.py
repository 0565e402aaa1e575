"""Checks of tools in chats: calls that must come, their stream, their results."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from orcinus.conformance.registry import Check, add, check
from orcinus.conformance.shapes import refused_or_bounded
from orcinus.conformance.target import CHAT, HI, EventStream, Json, ServerUnderTest, granted
from orcinus.conformance.verdict import Failed, expect, expect_equal

# Any model can call them: every argument comes from a short list.
CITIES, DAYS = ["Paris", "Rome", "Oslo"], [1, 2, 3]
PARAMETERS: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": CITIES}, "days": {"type": "integer", "enum": DAYS}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FORECAST = {"name": "forecast", "description": "The weather of the next days.", "parameters": PARAMETERS}
NO_PARAMETERS: Json = {"type": "object", "properties": {}, "additionalProperties": False}
TIME = {"name": "time", "description": "What time it is.", "parameters": NO_PARAMETERS}
FUNCTIONS: list[Json] = [FORECAST, TIME]
TOOLS: list[Json] = [{"type": "function", "function": one} for one in FUNCTIONS]
NAMED: Json = {"type": "function", "function": {"name": "forecast"}}
ROOM = 256  # tokens; models that reason need most of them
ASKED = [{"role": "user", "content": "What is the weather in Rome?"}]
CALLING: Json = {"messages": ASKED, "tools": TOOLS, "tool_choice": "required", "max_tokens": ROOM, "temperature": 0}
FORCED: Json = CALLING | {"tool_choice": NAMED}


def _answer(target: ServerUnderTest, fields: Json) -> Json:
    """The answer. Raises `Skip` if the server refuses tools as unsupported."""
    return granted(target.post(CHAT, fields))


def _calls(choice: Json) -> list[Json]:
    """The calls of an answer, each checked. Raises `Failed` if there are none."""
    calls: list[Json] = choice["message"].get("tool_calls") or []
    expect(calls, f"no call, but {choice['message'].get('content')!r:.60}")
    for call in calls:
        expect_equal(call["type"], "function", "the type of a call")
        function_called(call["function"]["name"], call["function"]["arguments"])
    ids = [call["id"] for call in calls]
    expect(all(isinstance(one, str) and one for one in ids) and len({*ids}) == len(ids), f"the ids are {ids}")
    return calls


def function_called(name: str, arguments: Any) -> None:
    """Raise `Failed` unless arguments, as JSON text, are right for a function."""
    expect(name in ("forecast", "time"), f"the function is {name!r}")
    try:
        found = json.loads(arguments)
    except (ValueError, TypeError):
        raise Failed(f"the arguments are no JSON text: {arguments!r:.60}") from None
    right = (
        {"city", "days"} == set(found) and found["city"] in CITIES and found["days"] in DAYS
        if name == "forecast"
        else not found
    )
    expect(right, f"the arguments of {name} are {found!r}")


@check("tools: required gives calls with arguments of the schema")
def _required(target: ServerUnderTest) -> None:
    choice = _answer(target, CALLING)["choices"][0]
    _calls(choice)
    expect_equal(choice["finish_reason"], "tool_calls", "finish_reason")
    expect(not choice["message"].get("content"), "there is text beside the calls")


@check("tools: a named function is the one that is called")
def _named(target: ServerUnderTest) -> None:
    for name in ("forecast", "time"):
        choice = _answer(target, CALLING | {"tool_choice": {"type": "function", "function": {"name": name}}})["choices"][0]
        expect_equal([call["function"]["name"] for call in _calls(choice)], [name], "the functions")
        expect(choice["finish_reason"] in ("stop", "tool_calls"), f"finish_reason is {choice['finish_reason']!r}")


@check("tools: parallel_tool_calls false gives one call")
def _one(target: ServerUnderTest) -> None:
    fields = CALLING | {"parallel_tool_calls": False, "temperature": 1.5}
    for seed in range(3):
        expect_equal(len(_calls(_answer(target, fields | {"seed": seed})["choices"][0])), 1, "the number of calls")


@check("tools: samples at temperature 2 follow the schema")
def _sampled(target: ServerUnderTest) -> None:
    for choice in _answer(target, FORCED | {"n": 3, "temperature": 2, "seed": 1})["choices"]:
        _calls(choice)


@check("tools: none gives text")
def _none(target: ServerUnderTest) -> None:
    choice = _answer(target, CALLING | {"tool_choice": "none", "max_tokens": 16})["choices"][0]
    expect(not choice["message"].get("tool_calls"), "there is a call")
    expect(choice["finish_reason"] in ("stop", "length"), f"finish_reason is {choice['finish_reason']!r}")
    expect(isinstance(choice["message"]["content"], str), "there is no text")


@check("tools: auto gives text or calls, and the reason says which")
def _auto(target: ServerUnderTest) -> None:
    for messages in (HI, ASKED):
        choice = _answer(target, CALLING | {"messages": messages, "tool_choice": "auto", "max_tokens": 64})["choices"][0]
        calls, reason = choice["message"].get("tool_calls") or [], choice["finish_reason"]
        expect(reason in (("tool_calls", "length") if calls else ("stop", "length")), f"{len(calls)} calls end with {reason!r}")
        expect(calls or choice["message"]["content"] is not None, "there is neither text nor a call")


@check("tools: without tool_choice it is auto, and without tools it is none")
def _defaults(target: ServerUnderTest) -> None:
    body = {"messages": ASKED, "max_tokens": 16, "temperature": 0}
    given = _answer(target, body | {"tools": TOOLS, "tool_choice": "auto"})["choices"][0]["message"]
    found = _answer(target, body | {"tools": TOOLS})["choices"][0]["message"]
    expect_equal(found.get("content"), given.get("content"), "the text")
    expect_equal(len(found.get("tool_calls") or []), len(given.get("tool_calls") or []), "the number of calls")
    expect(not target.chat(**body)["choices"][0]["message"].get("tool_calls"), "there is a call without tools")


@check("tools: the model is told of them")
def _told(target: ServerUnderTest) -> None:
    body = {"messages": ASKED, "max_tokens": 1}
    without, told = (_answer(target, body | more)["usage"]["prompt_tokens"] for more in ({}, {"tools": TOOLS}))
    expect(told > without, f"{told} prompt tokens with tools, {without} without")


def _joined(stream: EventStream) -> list[Json]:
    """The calls that the deltas of a stream add up to.

    Raises `Failed` unless each begins with its id and name and is not mixed with others.
    """
    calls: list[Json] = []
    for choice in stream.choices():
        for delta in choice["delta"].get("tool_calls") or []:
            function = delta.get("function") or {}
            if delta["index"] == len(calls):
                expect(delta.get("id") and function.get("name"), "a call begins without its id or name")
                calls.append({"id": delta["id"], "name": function["name"], "arguments": ""})
            expect_equal(delta["index"], len(calls) - 1, "the index of a delta")
            expect(delta.get("id") in (None, "", calls[-1]["id"]), "a call changes its id")
            expect(calls[-1]["arguments"] == "" or not function.get("name"), "a name comes again")
            calls[-1]["arguments"] += function.get("arguments") or ""
    return calls


@check("tools: the deltas of a stream add up to the whole")
def _streamed(target: ServerUnderTest) -> None:
    for fields in (CALLING, FORCED):
        choice = _answer(target, fields)["choices"][0]
        stream = target.stream(CHAT, **fields)
        found = [(call["name"], call["arguments"]) for call in _joined(stream)]
        whole = [(call["function"]["name"], call["function"]["arguments"]) for call in _calls(choice)]
        expect_equal(found, whole, "the calls of the stream")
        expect_equal(stream.reasons(), [choice["finish_reason"]], "the finish reasons")
        expect_equal(stream.text(), choice["message"].get("content") or "", "the text of the stream")


@check("tools: each of several answers has calls of its own")
def _several(target: ServerUnderTest) -> None:
    choices = _answer(target, CALLING | {"n": 2, "temperature": 1, "seed": 3})["choices"]
    ids = [call["id"] for choice in choices for call in _calls(choice)]
    expect(len({*ids}) == len(ids), f"the ids are {ids}")


@check("tools: a call that max_tokens cuts is a length")
def _cut(target: ServerUnderTest) -> None:
    choice = _answer(target, FORCED | {"max_tokens": 2})["choices"][0]
    expect_equal(choice["finish_reason"], "length", "finish_reason")
    stream = target.stream(CHAT, **FORCED | {"max_tokens": 2})
    expect_equal(stream.reasons(), ["length"], "the finish reasons of the stream")
    target.unharmed()


def _history(*results: Json, arguments: Any = '{"city": "Rome", "days": 1}') -> list[Json]:
    call = {"id": "call_1", "type": "function", "function": {"name": "forecast", "arguments": arguments}}
    return [*ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}, *results]


def _result(content: Any) -> Json:
    return {"role": "tool", "tool_call_id": "call_1", "content": content}


@check("tools: calls and results in a history are part of the prompt")
def _histories(target: ServerUnderTest) -> None:
    counts = []
    for results in ((_result("sunny"),), (_result("sunny, then rain, then snow, and wind from the north all day"),)):
        body = {"messages": _history(*results), "tools": TOOLS, "max_tokens": 4}
        counts.append(_answer(target, body)["usage"]["prompt_tokens"])
    expect(counts[1] > counts[0], f"{counts[1]} prompt tokens for a longer result, {counts[0]} for a short one")


@check("tools: a result as a list of text parts is its text")
def _parts(target: ServerUnderTest) -> None:
    contents: tuple[Any, ...] = ("sunny", [{"type": "text", "text": "sunny"}])
    bodies = [{"messages": _history(_result(one)), "tools": TOOLS, "max_tokens": 8, "temperature": 0} for one in contents]
    texts = [_answer(target, body)["choices"][0]["message"].get("content") for body in bodies]
    expect_equal(texts[1], texts[0], "the text")


@check("tools: the answer of a call can be sent back as it came")
def _sent_back(target: ServerUnderTest) -> None:
    message = _answer(target, FORCED)["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"}
    choice = _answer(target, CALLING | {"messages": [*ASKED, message, result], "tool_choice": "none", "max_tokens": 8})
    expect(choice["choices"][0]["message"]["content"] is not None, "there is no text")


def _tool(**fields: Any) -> Json:
    return {"type": "function", "function": FORECAST | fields}


def _one_tool(**fields: Any) -> Json:
    return {"tools": [_tool(**fields)]}


MANY: Json = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(5000)}}
# A server may refuse these, or answer; it must not fail, and must go on as before.
ODD: dict[str, Json] = {
    "a result without a call": {"messages": [*ASKED, _result("sunny")]},
    "a result before its call": {"messages": [ASKED[0], _result("sunny"), *_history()[1:]]},
    "two results of one call": {"messages": _history(_result("sunny"), _result("rain"))},
    "a call without a result": {"messages": [*_history(), *ASKED]},
    "arguments that are no JSON": {"messages": _history(_result("sunny"), arguments='{"city": ')},
    "arguments of NUL and quotes": {"messages": _history(_result("a\u0000\u202e"), arguments='{"city": "\\u0000\\""}')},
    "content null everywhere": {"messages": [*ASKED, *[{"role": "assistant", "content": None}] * 3, *ASKED]},
    "no calls in a list of calls": {"messages": [*ASKED, {"role": "assistant", "content": "x", "tool_calls": []}, *ASKED]},
    "a description of 1,000,000 characters": _one_tool(description="x" * 10**6),
    "parameters of 5,000 properties": _one_tool(parameters=MANY) | {"tool_choice": "required"},
    "parameters of a wrong type": _one_tool(parameters={"type": True}),
    "120 tools": {"tools": [_tool(name=f"tool_{i}") for i in range(120)], "tool_choice": "required"},
}  # fmt: skip


for _name, _fields in ODD.items():
    add(
        Check(
            f"tools: {_name} is refused or bounded", partial(refused_or_bounded, {"messages": ASKED, "tools": TOOLS} | _fields)
        )
    )
