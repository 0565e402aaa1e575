"""Tools over HTTP: what clients get of calls, whole and streamed, and what may be asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.serve import response_schema
from orcinus.serve.answers import Answers, ChoiceDelta
from orcinus.serve.dialects.chat import ChatReply
from orcinus.serve.dialects.reply import ServedModel
from orcinus.serve.schema import ChatBody
from orcinus.text.answer import Answer, RequestMetrics
from orcinus.text.detokenizer import ByteWriter, Detokenizer
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.reasoning import Reasoning
from orcinus.text.tools import FORMS
from orcinus.text.tools.tool_call import Tool
from orcinus.text.tools.tool_use import ToolUse
from tests.serve.conftest import Running
from tests.serve.test_answers import stream

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]


def exactly(name: str, *values: str) -> dict[str, Any]:
    """The schema of an object with one member, which is one of these values."""
    return {"type": "object", "properties": {name: {"enum": values}}, "required": [name], "additionalProperties": False}


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": exactly("side", "left", "right")} | fields}


TURN, LOOK = function("turn"), function("look")


class SomeCall:
    id = "chatcmpl-1"
    hung_up = False


def replied(
    words: list[str], *, reasons: bool = False, end: Finish = Finish.STOP, **fields: Any
) -> tuple[ChatReply, list[Any]]:
    """The reply to an answer of these tokens, read to its end, and the deltas of its stream."""
    body = ChatBody.model_validate({"messages": HI, "stream": True, "tools": [TURN, LOOK]} | fields)
    use = ToolUse(FORMS["hermes"], (Tool("turn"), Tool("look")), body.parallel_tool_calls is not False)
    prepared = [TokenizedRequest(0, 0, None, (1, 2), SamplingParams(), RequestContext(), tool_use=use)]
    detokenizer = Detokenizer(lambda: ByteWriter(lambda token: words[token].encode()))
    split = Reasoning(open=False) if reasons else None
    answer = Answer("r", 0, 0, SamplingParams(), detokenizer, RequestMetrics(0.0), split, use)
    answers = Answers(SomeCall(), body, prepared, object())  # type: ignore[arg-type]
    reply = ChatReply(answers, ServedModel("m"), body)
    news = [answer.add(Token("r", number, 0.0)) for number in range(len(words))]
    fresh = answers.take([*filter(None, news), answer.end(Finished("r", end, 0.0))], merge=False)
    events = [reply._event(one) for one in fresh]
    return reply, [json.loads(event[6:])["choices"][0] for event in events if event]


CALL = ["<tool_call>", '{"name": "turn", "arg', 'uments": {"si', 'de": "left"}}', "</tool_call>"]


def test_a_call_is_streamed_name_first_and_then_in_pieces() -> None:
    reply, choices = replied(CALL)
    pieces = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    first, *others = pieces
    assert first["id"].startswith("call_")
    assert (first["index"], first["type"], first["function"]["name"]) == (0, "function", "turn")
    assert len(others) >= 1, "arguments are not held back to the end of the call"
    assert all(piece.keys() == {"index", "function"} and piece["function"].keys() == {"arguments"} for piece in others)
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {"side": "left"}
    assert choices[0]["delta"]["role"] == "assistant"
    assert choices[0]["delta"]["content"] is None
    assert not any(choice["delta"].get("content") for choice in choices)
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["tool_calls"]
    message = reply.choice(reply.answers.choices[0])["message"]
    assert message["content"] is None
    (call,) = message["tool_calls"]
    assert call["id"] == first["id"]
    assert json.loads(call["function"]["arguments"]) == {"side": "left"}


def test_calls_after_reasoning_and_text() -> None:
    reply, choices = replied(["<think>", "hm", "</think>", "I turn. ", *CALL, "\n", *CALL], reasons=True)
    message = reply.choice(reply.answers.choices[0])["message"]
    assert (message["reasoning_content"], message["content"].strip()) == ("hm", "I turn.")
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["turn", "turn"]
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    streamed = [call["index"] for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert [index for index, _ in groupby(streamed)] == [0, 1]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == message["content"]
    assert reply.usage()["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert reply.usage()["completion_tokens"] == 4 + 5 + 1 + 5


def test_without_parallel_calls_only_the_first_is_given() -> None:
    reply, choices = replied([*CALL, *CALL], parallel_tool_calls=False)
    assert len(reply.choice(reply.answers.choices[0])["message"]["tool_calls"]) == 1
    assert {call["index"] for choice in choices for call in choice["delta"].get("tool_calls", [])} == {0}


def test_a_call_that_is_cut_is_no_finished_call() -> None:
    reply, choices = replied(CALL[:3], end=Finish.LENGTH)
    choice = reply.choice(reply.answers.choices[0])
    assert choice["finish_reason"] == choices[-1]["finish_reason"] == "length"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["arguments"].startswith('{"si')


def test_reasoning_is_left_out_on_request_and_counted() -> None:
    reply, choices = replied(["<think>", "hm", "</think>", "Yes"], reasons=True, include_reasoning=False)
    assert reply.choice(reply.answers.choices[0])["message"] == {"role": "assistant", "content": "Yes", "refusal": None}
    assert not any("reasoning_content" in choice["delta"] for choice in choices)
    assert choices[0]["delta"] == {"role": "assistant", "content": "Yes"}
    assert reply.usage()["completion_tokens_details"] == {"reasoning_tokens": 3}


def test_deltas_of_one_call_are_joined_in_one_frame() -> None:
    reply, _ = replied(CALL)
    whole = ChoiceDelta(0, tool_calls=reply.answers.choices[0].tool_calls)
    (call,) = reply.frame(whole, first=False)["choices"][0]["delta"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"side": "left"}


# By a real server


def ask(server: Running, **fields: Any) -> dict[str, Any]:
    answer = server.http.post(CHAT, json={"messages": HI, "temperature": 0, "max_tokens": 80} | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    response_schema.ChatCompletion.model_validate(found)
    return found


def called(choice: dict[str, Any]) -> list[tuple[str, Any]]:
    """Names and arguments of the calls of a choice that has nothing else."""
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert all(call["type"] == "function" and call["id"] for call in choice["message"]["tool_calls"])
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in choice["message"]["tool_calls"]]


@pytest.mark.parametrize("n", [1, 2])
def test_a_required_call_is_made_by_any_model(server: Running, n: int) -> None:
    found = ask(server, tools=[TURN, LOOK], tool_choice="required", parallel_tool_calls=False, n=n, temperature=1, seed=3)
    assert len(found["choices"]) == n
    for choice in found["choices"]:
        ((name, arguments),) = called(choice)
        assert name in ("turn", "look")
        assert arguments["side"] in ("left", "right")


def test_a_named_function_is_called_and_streamed_as_it_is_given_whole(server: Running) -> None:
    fields = {"tools": [TURN, LOOK], "tool_choice": {"type": "function", "function": {"name": "look"}}}
    (whole,) = ask(server, **fields)["choices"]
    ((name, arguments),) = called(whole)
    assert name == "look"
    frames = [one["choices"][0] for one in stream(server, CHAT, messages=HI, max_tokens=80, **fields)]
    calls = [call for one in frames for call in one["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "look"
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == arguments
    assert frames[-1]["finish_reason"] == "tool_calls"


def test_a_call_that_must_come_wins_over_the_form_of_the_answer(server: Running) -> None:
    form = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["blue", "red"]}}}}
    (choice,) = ask(server, tools=[TURN], tool_choice="required", parallel_tool_calls=False, **form)["choices"]
    assert called(choice)[0][0] == "turn"


def test_with_auto_an_answer_is_calls_or_in_the_form_asked_for(server: Running) -> None:
    for form in (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": exactly("colour", "blue", "red")}}},
        {"structured_outputs": {"regex": r'\{"colour":"(blue|red)"\}'}},
        {"structured_outputs": {"choice": ['{"colour":"blue"}']}},
    ):
        (choice,) = ask(server, tools=[TURN], **form)["choices"]
        if choice["finish_reason"] == "stop":
            assert json.loads(choice["message"]["content"])["colour"] in ("blue", "red")
        else:
            called(choice)


def test_tools_are_shown_to_the_model_unless_it_may_not_call_them(server: Running) -> None:
    plain = ask(server, max_tokens=1)["usage"]["prompt_tokens"]
    assert ask(server, max_tokens=1, tools=[TURN])["usage"]["prompt_tokens"] > plain
    assert ask(server, max_tokens=1, tools=[TURN], tool_choice="none")["usage"]["prompt_tokens"] == plain
    assert ask(server, max_tokens=1, tools=[], tool_choice="auto")["usage"]["prompt_tokens"] == plain


CALLED = {"id": "call_1", "type": "function", "function": {"name": "turn", "arguments": '{"side": "left"}'}}
HISTORIES: dict[str, list[dict[str, Any]]] = {
    "a call and its result": [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ],
    "a result without an id": [*HI, {"role": "assistant", "tool_calls": [CALLED]}, {"role": "tool", "content": "done"}],
    "arguments that are no JSON": [
        *HI,
        {"role": "assistant", "tool_calls": [{"function": {"name": "turn", "arguments": "{side"}}]},
        {"role": "tool", "content": "what?"},
    ],
    "arguments that are a list": [
        *HI,
        {"role": "assistant", "tool_calls": [{"function": {"name": "turn", "arguments": "[1]"}}]},
        {"role": "tool", "content": "what?"},
    ],
    "no calls": [*HI, {"role": "assistant", "content": "Yes", "tool_calls": []}, *HI],
}


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("tools", [[TURN], None], ids=["tools", "no tools"])
def test_calls_and_results_in_the_history(server: Running, history: str, tools: list[Any] | None) -> None:
    found = ask(server, messages=HISTORIES[history], tools=tools, max_tokens=1)
    assert found["usage"]["prompt_tokens"] > ask(server, max_tokens=1, tools=tools)["usage"]["prompt_tokens"]


def test_a_result_is_read_by_the_model(server: Running) -> None:
    """Other results are other prompts: none is dropped where the template has no tools."""
    call, result = HISTORIES["a call and its result"][-2:]
    first, other = (
        server.http.post("/tokenize", json={"messages": [*HI, call, result | {"content": said}]}).json()["tokens"]
        for said in ("sunny", "rainy")
    )
    assert first != other


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "turn"}}}, "tool_choice.function.name"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    ({"tools": [TURN], "tool_choice": "any"}, "tool_choice"),
    ({"tools": [TURN], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice.function.name"),
    ({"tools": [TURN], "tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tools": [TURN, LOOK, TURN]}, "tools[2].function.name"),
    ({"tools": [function("turn\u0000left")]}, "tools[0].function.name"),
    ({"tools": [function("turn left")]}, "tools[0].function.name"),
    ({"tools": [function("x" * 129)]}, "tools[0].function.name"),
    ({"tools": [LOOK, {"type": "web_search"}]}, "tools[1].type"),
    ({"tools": [function("a", parameters="x")]}, "tools[0].function.parameters"),
    ({"tools": [function("a", parameters={"type": "string"})]}, "tools[0].function.parameters"),
    ({"tools": [LOOK, function("a", parameters={"type": {"a": 1}})]}, "tools[1].function.parameters"),
    ({"tools": [function(f"f{i}") for i in range(1025)]}, "tools"),
    ({"functions": [{"name": "look"}]}, "functions"),
    ({"function_call": {"name": "look"}}, "function_call"),
    ({"tools": [TURN], "structured_outputs": {"grammar": 'start: "x"'}}, "structured_outputs.grammar"),
    ({"tools": [TURN], "structured_outputs": {"json": {"not": {"type": "null"}}}}, "structured_outputs.json"),
    (
        {"tools": [function("turn", parameters={"properties": {"side": {"type": "wibble"}}})], "tool_choice": "required"},
        "tools[0].function.parameters",
    ),
    (
        {"tools": [LOOK, function("turn", parameters={"type": "teapot"})], "tool_choice": "required"},
        "tools[1].function.parameters",
    ),
    ({"tools": [function("turn", parameters={"required": 5}, strict=True)]}, "tools[0].function.parameters"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=[f"{param} {place}" for place, (_, param) in enumerate(WRONG)])
def test_tools_that_cannot_be_used(server: Running, fields: dict[str, Any], param: str) -> None:
    answer = server.http.post(CHAT, json={"messages": HI, "max_tokens": 1} | fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


NAMES: dict[str, Callable[[], str]] = {"dots": lambda: "server.look", "long": lambda: "mcp__" + "x" * 123}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_clients_send(server: Running, name: str) -> None:
    called_name = NAMES[name]()
    fields = {"tools": [function(called_name)], "tool_choice": "required", "parallel_tool_calls": False}
    (choice,) = ask(server, max_tokens=300, **fields)["choices"]
    assert called(choice)[0][0] == called_name
