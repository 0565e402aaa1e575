"""`POST /v1/messages` and `count_tokens` of a real server, with request shapes of Claude Code."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import Any

import httpx
import pytest

from orcinus.config import EngineConfig
from orcinus.serve.dialects.messages_openapi import MessagesResponse, TokenCount
from tests.examples import fewer
from tests.product import part
from tests.serve.conftest import Running
from tests.serve.test_messages_reply import gathered
from tests.waiting import wait_until

MESSAGES, COUNT, CHAT = "/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions"
HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
STORY: list[dict[str, Any]] = [{"role": "user", "content": "Tell me a story about a fox."}]
CLOCK = {"name": "clock", "description": "The time.", "input_schema": {"type": "object", "properties": {"zone": {}}}}
ZONE = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"], "additionalProperties": False}
CACHED = {"cache_control": {"type": "ephemeral"}}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def ask(server: Running, path: str = MESSAGES, **fields: Any) -> dict[str, Any]:
    start: dict[str, Any] = {"messages": HI} | ({"max_tokens": 16, "temperature": 0} if path == MESSAGES else {})
    answer = server.http.post(path, json=start | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    (MessagesResponse if path == MESSAGES else TokenCount).model_validate(found)
    return found


def events(server: Running, **fields: Any) -> list[dict[str, Any]]:
    body = {"messages": HI, "max_tokens": 16, "temperature": 0, "stream": True} | fields
    with httpx.stream("POST", server.url + MESSAGES, json=body, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = "".join(answer.iter_text()).split("\n\n")[:-1]
    found = []
    for frame in frames:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def text(message: dict[str, Any]) -> str:
    (block,) = message["content"]
    assert set(block) == {"type", "text"}
    found: str = block["text"]
    return found


def prompt_tokens(message: dict[str, Any]) -> int:
    usage = message["usage"]
    return int(usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"])


def test_an_answer_is_that_of_the_chat(server: Running) -> None:
    chat = server.http.post(CHAT, json={"messages": STORY, "max_tokens": 15, "temperature": 0}).json()
    message = ask(server, messages=STORY, max_tokens=15)
    assert text(message) == chat["choices"][0]["message"]["content"]
    assert (message["stop_reason"], message["model"]) == ("max_tokens", "orcinus-tiny")
    assert prompt_tokens(message) == chat["usage"]["prompt_tokens"]
    assert message["usage"]["output_tokens"] == chat["usage"]["completion_tokens"]
    assert ask(server)["stop_reason"] == "end_turn"


def test_a_stream_gathers_to_the_whole_message(server: Running) -> None:
    whole, streamed = (get(server, messages=STORY, max_tokens=15) for get in (ask, events))
    message = gathered(streamed)
    for one in (whole, message):
        one["prompt"], one["output"] = prompt_tokens(one), one.pop("usage")["output_tokens"]
        one.pop("id")
    assert message == whole
    assert [event["type"] for event in streamed[:2]] == ["message_start", "content_block_start"]


def test_the_stop_sequence_that_ended_an_answer_is_named(server: Running) -> None:
    whole = text(ask(server, messages=STORY))
    word = re.findall(r"\w+", whole)[5]
    for message in (
        ask(server, messages=STORY, stop_sequences=["never", word]),
        gathered(events(server, messages=STORY, stop_sequences=["never", word])),
    ):
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", word)
        assert text(message) == whole[: whole.index(word)]


def test_the_last_message_of_the_assistant_is_continued(server: Running) -> None:
    whole = text(ask(server, messages=STORY))
    begun = whole[: whole.index(" ", 10)]
    prefilled = [*STORY, {"role": "assistant", "content": begun}]
    chat = {"messages": prefilled, "continue_final_message": True, "max_tokens": 10, "temperature": 0}
    expected = server.http.post(CHAT, json=chat).json()["choices"][0]["message"]["content"]
    assert text(ask(server, messages=prefilled, max_tokens=10)) == expected


def test_max_tokens_beyond_the_context_are_cut_to_it(server: Running) -> None:
    """Claude Code asks for 32,000 tokens, whatever the model."""
    assert text(ask(server, max_tokens=32_000)) == text(ask(server))


CONVERSATIONS: list[dict[str, Any]] = [
    {},
    {"system": "Be brief.", "messages": STORY},
    {"system": [said("x-anthropic-billing-header: cch=1;"), said("Be brief.") | CACHED], "tools": [CLOCK | CACHED]},
    {"tools": [CLOCK], "tool_choice": {"type": "none"}},
    {
        "messages": [
            *HI,
            {"role": "assistant", "content": [said("See."), {"type": "tool_use", "id": "t", "name": "clock", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [said("noon")]}]},
        ],
        "tools": [CLOCK],
    },
    {"messages": [*STORY, {"role": "assistant", "content": "Once"}], "thinking": {"type": "enabled", "budget_tokens": 1024}},
]


@pytest.mark.parametrize("fields", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_tokens_are_counted_as_the_request_counts_them(server: Running, fields: dict[str, Any]) -> None:
    assert ask(server, COUNT, **fields)["input_tokens"] == prompt_tokens(ask(server, max_tokens=1, **fields))


def test_more_tokens_than_the_context_are_counted(server: Running) -> None:
    long = [{"role": "user", "content": "Once upon a time " * 1000}]
    assert ask(server, COUNT, messages=long)["input_tokens"] > 2048


@pytest.mark.parametrize("choice", part({"type": "tool", "name": "clock"}, full=[{"type": "any"}]), ids=itemgetter("type"))
def test_a_call_that_must_come_fits_its_schema(server: Running, choice: dict[str, Any]) -> None:
    fields = {"tools": [{**CLOCK, "input_schema": ZONE}], "tool_choice": choice, "max_tokens": 100}
    for message in (ask(server, **fields), gathered(events(server, **fields))):
        (call,) = message["content"]
        assert (call["type"], call["name"]) == ("tool_use", "clock")
        assert call["input"] in ({"zone": "UTC"}, {"zone": "CET"})
        assert message["stop_reason"] == "tool_use"


def test_a_call_and_its_result_go_back(server: Running) -> None:
    fields = {"tools": [{**CLOCK, "input_schema": ZONE}], "max_tokens": 100}
    message = ask(server, **fields, tool_choice={"type": "any"})
    result = {"type": "tool_result", "tool_use_id": message["content"][0]["id"], "content": "noon"}
    past = [*HI, {"role": "assistant", "content": message["content"]}, {"role": "user", "content": [result]}]
    assert prompt_tokens(ask(server, **fields, messages=past)) > prompt_tokens(message)


def test_an_answer_in_a_schema(server: Running) -> None:
    wanted = {"type": "json_schema", "schema": ZONE}
    for fields in ({"output_config": {"format": wanted}}, {"output_format": wanted}):
        assert json.loads(text(ask(server, **fields))) in ({"zone": "UTC"}, {"zone": "CET"})
    refused = server.http.post(
        MESSAGES,
        json={"messages": HI, "max_tokens": 5, "output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}},
    )
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("output_config.format.schema: ")


def claude_code(server: Running, turn: int, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """A request as Claude Code sends it: its first block of the system prompt is another one in every turn."""
    header = f"x-anthropic-billing-header: cc_version=2.1.{turn}; cc_entrypoint=cli; cch={turn:05x};"
    system = [said(header), said("You are a helpful companion for long talks. " * 4) | CACHED, said("Be kind.") | CACHED]
    answer = server.http.post(
        f"{MESSAGES}?beta=true",
        headers={"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219", "x-app": "cli"},
        json={
            "model": "orcinus-tiny",
            "max_tokens": 12,
            "temperature": 0,
            "system": system,
            "messages": messages,
            "tools": [CLOCK | CACHED],
            "metadata": {"user_id": "user_0_account__session_0"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        },
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-fields"] == "context_management"
    found: dict[str, Any] = answer.json()
    return found


def test_ten_turns_of_claude_code_find_their_past_in_the_cache(server: Running) -> None:
    """Turn n finds the prompt of turn n-1, down to whole blocks; in odd turns the assistant had called a tool."""
    block = EngineConfig().block_size
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [said("<reminder>Hi</reminder>"), said("What do foxes eat?")]}
    ]
    past = 0
    for turn in range(fewer(10, least=4)):
        message = claude_code(server, turn, messages)
        assert message["usage"]["cache_read_input_tokens"] >= past // block * block
        past = prompt_tokens(message)
        messages.append({"role": "assistant", "content": message["content"]})
        if turn % 2:
            call = {"type": "tool_use", "id": f"toolu_{turn}", "name": "clock", "input": {"zone": "UTC"}}
            messages[-1]["content"].append(call)
            result = {"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": f"{turn} o'clock"}
            messages.append({"role": "user", "content": [result | CACHED]})
        else:
            messages.append({"role": "user", "content": [said(f"And then, number {turn}?") | CACHED]})
    assert past > (2 * turn + 2) * block


def test_neighbours_get_the_same_answers(server: Running) -> None:
    """Right and wrong messages, with parameters of their own, beside a chat."""
    control = {"messages": STORY, "max_tokens": 25, "temperature": 0}
    alone = server.http.post(CHAT, json=control).json()["choices"]
    others: list[dict[str, Any]] = [
        {"messages": STORY, "max_tokens": 25, "temperature": 1, "top_k": 3, "stop_sequences": ["fox"]},
        {"messages": STORY, "max_tokens": 0},
        {"messages": STORY, "max_tokens": 15, "system": "Be brief.", "stream": True},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}], "max_tokens": 5},
    ]
    with ThreadPoolExecutor(9) as pool:
        running = [pool.submit(httpx.post, server.url + MESSAGES, json=body, timeout=60) for body in others * 2]
        beside = pool.submit(httpx.post, server.url + CHAT, json=control, timeout=60).result().json()["choices"]
    assert beside == alone
    assert [one.result().status_code for one in running] == [200, 400, 200, 400] * 2
    assert server.idle()


def test_a_client_that_hangs_up_frees_its_request(server: Running) -> None:
    body = {"messages": STORY, "max_tokens": 1000, "stream": True}
    server.http.post("/pause")
    try:
        with httpx.stream("POST", server.url + MESSAGES, json=body, timeout=60) as answer:
            timeline = f"/v1/requests/{answer.headers['x-response-id']}/timeline"
    finally:
        server.http.post("/resume")
    wait_until(lambda: server.http.get(timeline).json()["answers"][0]["finish"] == "cancelled")
    assert server.idle()
