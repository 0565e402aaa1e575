"""Checks of tools, Responses and Messages fail for servers that are wrong in one way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orcinus.conformance.checklist import FAIL, PASS, SKIP, chosen, run
from orcinus.conformance.registry import CHECKS
from orcinus.conformance.target import ServerUnderTest
from tests.conformance.dialect_server import ARGUMENTS, respond
from tests.conformance.wrong_server import CARD, Json, answering, yes_to_everything

Spoil = Callable[[str], str]  # the answer as JSON text, and as it is sent


def outcome(name: str, spoil: Spoil) -> tuple[str, str]:
    """The outcome of a check for a server whose answers are changed."""

    def spoiled(method: str, path: str, body: Json) -> tuple[int, Any]:
        status, found = respond(method, path, body)
        return status, json.loads(spoil(json.dumps(found)))

    with answering(spoiled) as url:
        target = ServerUnderTest(url)
        result = run(CHECKS[name], target)
        target.close()
    return result.outcome, result.why


def replaced(old: str, new: str, count: int = -1) -> Spoil:
    return lambda text: text.replace(old, new, count)


def in_streams(change: Callable[[list[Any]], list[Any]]) -> Spoil:
    """Changes the frames of streams, and leaves other answers alone."""

    def spoil(text: str) -> str:
        found = json.loads(text)
        return json.dumps(change(found)) if isinstance(found, list) else text

    return spoil


EVENTS = "responses: a stream's events are in order and add up to the response"
CALL = "responses: a streamed function call is the whole one"
BLOCKS = "messages: a stream's events are in order and add up to the message"
USE = "messages: a streamed tool_use is the whole one"
ANY = "messages: any gives tool_use with input of the schema"
REQUIRED = "tools: required gives calls with arguments of the schema"
DELTAS = "tools: the deltas of a stream add up to the whole"

WRONG: list[tuple[str, Spoil, str]] = [
    (EVENTS, in_streams(lambda events: [*events[:3], *events[4:]]), "the sequence numbers"),
    (EVENTS, in_streams(lambda events: events[:-1]), "the last event"),
    (EVENTS, replaced('"delta": "Hello"', '"delta": "Hullo"'), "sum of the deltas"),
    (EVENTS, replaced('"item_id": "msg_1"', '"item_id": "msg_2"', 1), "item_id"),
    (EVENTS, replaced('"output_index": 0, "item"', '"output_index": 1, "item"', 1), "output_index"),
    (EVENTS, replaced('"id": "resp_1"', '"id": "resp_0"', 1), "the id of the response"),
    (EVENTS, in_streams(lambda events: [events[0], *events]), "the sequence numbers"),
    (CALL, replaced('"call_id": "c_1"', '"call_id": "c_2"', 1), "call_id"),
    (CALL, replaced('"delta": "{', '"delta": "', 1), "sum of the deltas"),
    ("responses: required gives a function call with arguments of the schema", replaced("Rome", "Bonn"), "the arguments"),
    ("responses: a named function is the one that is called", replaced('"forecast"', '"storm"'), "the function is"),
    ("responses: usage adds up", replaced('"total_tokens": 5', '"total_tokens": 6'), "total_tokens"),
    (BLOCKS, in_streams(lambda events: events[:-1]), "the last events"),
    (BLOCKS, in_streams(lambda events: [one for one in events if one["type"] != "content_block_stop"]), "a block never stops"),
    (BLOCKS, replaced('"index": 0', '"index": 1', 1), "the index"),
    (BLOCKS, replaced('"text_delta", "text": "Hello"', '"text_delta", "text": "Hullo"'), "the text of the stream"),
    (BLOCKS, replaced('"content": [], "stop_reason": null', '"content": [], "stop_reason": "end_turn"'), "message_start"),
    (USE, replaced('"partial_json": "{', '"partial_json": "', 1), "no JSON"),
    (USE, replaced('"input": {}', '"input": {"city": "Rome"}'), "the input of a block that starts"),
    (ANY, replaced('"days": 2', '"days": 9'), "the input of forecast"),
    (ANY, replaced('"tool_use", "stop_seq', '"end_turn", "stop_seq'), "stop_reason"),
    (DELTAS, replaced('"name": "forecast", "arguments": ""', '"arguments": ""'), "begins without its id"),
    (DELTAS, in_streams(lambda frames: [*frames[:1], *frames[2:]]), "the calls of the stream"),
    (DELTAS, in_streams(lambda frames: [*frames[:-2], *frames[-1:]]), "the finish reasons"),
    (REQUIRED, replaced("Rome", "Bonn"), "the arguments of forecast"),
    (REQUIRED, replaced('"tool_calls"}', '"stop"}'), "finish_reason"),
    (REQUIRED, replaced('"id": "c_1"', '"id": null'), "the ids are"),
]  # fmt: skip


@pytest.mark.parametrize("name", sorted({name for name, _, _ in WRONG}))
def test_a_right_server_passes(name: str) -> None:
    assert outcome(name, lambda text: text) == (PASS, "")


@pytest.mark.parametrize(("name", "spoil", "why"), WRONG)
def test_a_wrong_server_fails(name: str, spoil: Spoil, why: str) -> None:
    found, said = outcome(name, spoil)
    assert found == FAIL, said
    assert why in said


def test_a_server_that_ignores_forms_tools_and_dialects_passes_only_what_needs_none() -> None:
    with answering(yes_to_everything) as url:
        target = ServerUnderTest(url)
        results = [run(one, target) for one in chosen("^(structured output|tools|responses|messages):.*(?<!bounded)$")]
        target.close()
    assert len(results) == 130
    assert [result.name for result in results if result.outcome == PASS] == [
        "tools: none gives text",
        "tools: auto gives text or calls, and the reason says which",
        "tools: without tool_choice it is auto, and without tools it is none",
        "tools: a call that max_tokens cuts is a length",
        "tools: a result as a list of text parts is its text",
        "responses: an unknown field is taken or refused",
        "messages: headers and query of Anthropic's clients are taken",
    ]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_the_routes_is_not_blamed(status: int) -> None:
    def without(method: str, path: str, body: Json) -> tuple[int, Any]:
        return (status, {}) if path.startswith(("/v1/responses", "/v1/messages")) else yes_to_everything(method, path, body)

    with answering(without) as url:
        target = ServerUnderTest(url)
        results = [run(one, target) for one in chosen("^(responses|messages):")]
        target.close()
    assert {result.outcome for result in results} == {SKIP}


def test_a_server_that_refuses_forms_and_tools_as_unsupported_is_not_blamed() -> None:
    error = {"message": "tools are not supported", "type": "invalid_request_error", "param": None, "code": None}

    def respond(method: str, path: str, body: Json) -> tuple[int, Any]:
        return (200, {"data": [CARD]}) if path == "/v1/models" else (400, {"error": error})

    with answering(respond) as url:
        target = ServerUnderTest(url)
        results = {one.name: run(one, target).outcome for one in chosen("^(structured output|tools):.*(obeyed|required|named)")}
        target.close()
    assert {*results.values()} == {SKIP}
    assert len(results) > 15


def test_the_right_server_calls_with_arguments_that_the_checks_know() -> None:
    assert json.loads(ARGUMENTS) == {"city": "Rome", "days": 2}
