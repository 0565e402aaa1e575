"""Calls and results in histories: every call has a result and every result a call, by the rule of each API."""

from __future__ import annotations

from typing import Any

import pytest

from orcinus.conformance.prompts import CALL
from orcinus.serve.conversation_schema import Message
from orcinus.serve.dialects.chat_history import check_results
from orcinus.serve.errors import ApiError
from tests.serve.test_messages_errors import draining, send, service

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
USER = {"role": "user", "content": "Hi"}


def called(*ids: str | None) -> dict[str, Any]:
    calls = [CALL | {"id": id} for id in ids]  # noqa: A001
    return {"role": "assistant", "tool_calls": calls}


def result(id: str | None) -> dict[str, Any]:  # noqa: A002
    return {"role": "tool", "content": "x"} | ({} if id is None else {"tool_call_id": id})


def check(*messages: dict[str, Any], continued: bool = False) -> None:
    check_results([Message.model_validate(one) for one in messages], continued=continued)


GOOD: dict[str, list[dict[str, Any]]] = {
    "no calls": [USER, {"role": "assistant", "content": "A", "tool_calls": []}, USER],
    "one call": [USER, called("a"), result("a")],
    "parallel calls in another order": [USER, called("a", "b"), result("b"), result("a"), USER],
    "the same id in two turns": [USER, called("a"), result("a"), called("a"), result("a"), USER],
    "results without ids": [USER, called("a", "b"), result(None), result(None)],
    "calls without ids": [USER, called(None, None), result("x"), result("y")],
    "equal ids": [USER, called("a", "a"), result("a"), result("a")],
}


@pytest.mark.parametrize("history", GOOD)
def test_whole_histories(history: str) -> None:
    check(*GOOD[history])


BAD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a result alone": ([USER, result("a")], "messages[1].tool_call_id: the assistant's message before it has no call for 'a'"),
    "a result alone without an id": (
        [USER, result(None)],
        "messages[1].tool_call_id: the assistant's message before it has no call for this result",
    ),
    "a result of another call": ([USER, called("a"), result("b")], "messages[2].tool_call_id: "),
    "a second result": ([USER, called("a"), result("a"), result("a")], "messages[3].tool_call_id: "),
    "a result of an older turn": ([USER, called("a"), result("a"), USER, result("a")], "messages[4].tool_call_id: "),
    "no result": ([USER, called("a", "b"), result("b"), USER], "messages[1].tool_calls: no result follows for 'a';"),
    "no results": ([USER, called("a", "b"), USER], "messages[1].tool_calls: no result follows for 'a', 'b';"),
    "no result at the end": ([USER, called("a")], "messages[1].tool_calls: no result follows for 'a';"),
    "a result after the user": ([USER, called("a"), USER, result("a")], "messages[1].tool_calls: "),
    "a call without an id": ([USER, called(None), USER], "messages[1].tool_calls: no result follows for '(no id)';"),
}


@pytest.mark.parametrize("history", BAD)
def test_histories_with_holes(history: str) -> None:
    messages, told = BAD[history]
    with pytest.raises(ApiError) as caught:
        check(*messages)
    assert caught.value.status == 400
    assert caught.value.message.startswith(told)
    assert caught.value.param == told.partition(":")[0]


def test_the_calls_of_a_message_that_is_continued_need_no_result() -> None:
    check(USER, called("a"), continued=True)
    with pytest.raises(ApiError, match="no result follows"):
        check(USER, called("a"), USER, called("b"), continued=True)


def test_many_calls_take_no_long_check() -> None:
    """As many results as a body may have, of more calls: compared by lookups, not one by one."""
    ids = [f"call_{number}" for number in range(20_000)]
    with pytest.raises(ApiError, match="'call_4095'.* and 15897 more"):
        check(USER, called(*ids), *map(result, ids[:4095]))


# Over HTTP, in each dialect


def use(id: str) -> dict[str, Any]:  # noqa: A002
    return {"type": "tool_use", "id": id, "name": "look", "input": {}}


def tool_result(id: str) -> dict[str, Any]:  # noqa: A002
    return {"type": "tool_result", "tool_use_id": id, "content": "x"}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def function_call(id: str) -> dict[str, Any]:  # noqa: A002
    return {"type": "function_call", "call_id": id, "name": "look", "arguments": "{}"}


def output(id: str) -> dict[str, Any]:  # noqa: A002
    return {"type": "function_call_output", "call_id": id, "output": "x"}


TEXT = {"type": "text", "text": "And?"}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        CHAT,
        {"messages": [USER, result("a")]},
        "messages[1].tool_call_id: the assistant's message before it has no call for 'a'",
    ),
    (CHAT, {"messages": [USER, called("a"), USER]}, "messages[1].tool_calls: no result follows for 'a'"),
    (MESSAGES, {"messages": [USER, user(tool_result("a"))]}, "messages.1.content.0.tool_use_id: the assistant's message"),
    (
        MESSAGES,
        {"messages": [USER, assistant(use("a")), user(tool_result("a")), assistant(TEXT), user(TEXT, tool_result("a"))]},
        "messages.4.content.1.tool_use_id: the assistant's message before it has no tool_use block with this id",
    ),
    (
        MESSAGES,
        {"messages": [USER, assistant(use("a"), use("b")), user(tool_result("b"), TEXT)]},
        "messages.1: the next message has no tool_result block for the tool_use ids 'a'",
    ),
    (MESSAGES, {"messages": [USER, assistant(use("a")), USER, assistant(TEXT), USER]}, "messages.1: the next message has no"),
    (RESPONSES, {"input": [USER, output("a")]}, "input[1].call_id: there is no call of this id before it"),
    (RESPONSES, {"input": [USER, function_call("a"), USER]}, "input[1].call_id: there is no output of the calls 'a'"),
    (
        RESPONSES,
        {"input": [USER, function_call("a"), function_call("b"), output("a")]},
        "input[2].call_id: there is no output of the calls 'b'",
    ),
]


@pytest.mark.parametrize(("path", "fields", "told"), REFUSED, ids=range(len(REFUSED)))
def test_what_each_api_refuses(path: str, fields: dict[str, Any], told: str) -> None:
    answer = send(service(), "POST", path, json=fields | ({"max_tokens": 5} if path == MESSAGES else {}))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith(told)


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": [USER, called("a"), result("a"), USER]}),
    (MESSAGES, {"messages": [USER, assistant(use("a"), use("b")), user(tool_result("b"), tool_result("a"), TEXT)]}),
    (MESSAGES, {"messages": [USER, assistant(use("a")), user(tool_result("a")), user(TEXT)]}),
    (MESSAGES, {"messages": [USER, assistant(TEXT), assistant(use("a")), user(TEXT), user(tool_result("a"))]}),
    (RESPONSES, {"input": [USER, function_call("a"), USER, output("a")]}),
    (RESPONSES, {"input": [USER, function_call("a"), function_call("b"), output("b"), output("a"), USER]}),
]


@pytest.mark.parametrize(("path", "fields"), ACCEPTED, ids=range(len(ACCEPTED)))
def test_what_each_api_accepts(path: str, fields: dict[str, Any]) -> None:
    """The server is draining, but the history was read before."""
    answer = send(draining(), "POST", path, json=fields | ({"max_tokens": 5} if path == MESSAGES else {}))
    assert answer.status_code == 503, answer.text


def test_tokens_are_counted_of_what_would_be_answered() -> None:
    answer = send(service(), "POST", f"{MESSAGES}/count_tokens", json={"messages": [USER, assistant(use("a")), USER]})
    assert answer.json()["error"]["message"].startswith("messages.1: the next message has no tool_result")
