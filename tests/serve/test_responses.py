"""`/v1/responses` of a real server: what clients get, stored responses, long conversations, requests as agents send them."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest

from tests.examples import fewer
from tests.serve.conftest import Running
from tests.serve.test_aborts import iterations, ran, settle, wait_for  # noqa: F401  (a fixture)
from tests.serve.test_answers import chat

STORY = "Tell me a story about a fox."
BLOCK = 16  # tokens
WITHOUT_END = {"ignore_eos": True, "max_output_tokens": 1500}


def create(server: Running, status: int = 200, **fields: Any) -> dict[str, Any]:
    answer = server.http.post("/v1/responses", json={"temperature": 0} | fields)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stream(server: Running, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream: named by their types, numbered, and nothing after the last one."""
    body = {"temperature": 0, "stream": True} | fields
    with server.http.stream("POST", "/v1/responses", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).split("\n\n")
    assert blocks.pop() == ""
    events = []
    for block in blocks:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Types of events, each run of deltas as one."""
    found: list[str] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if not (found and found[-1] == kind and kind.endswith("delta")):
            found.append(kind)
    return found


def text(response: dict[str, Any]) -> str:
    (message,) = response["output"]
    assert message["type"] == "message"
    return str(message["content"][0]["text"])


def without_times(response: dict[str, Any]) -> dict[str, Any]:
    """A response without what differs between equal requests."""
    output = [{name: value for name, value in item.items() if name != "id"} for item in response["output"]]
    usage = {name: value for name, value in response["usage"].items() if name != "input_tokens_details"}
    other = ("id", "created_at", "completed_at", "timings", "output", "usage")
    return {name: value for name, value in response.items() if name not in other} | {"output": output, "usage": usage}


def test_a_response_says_what_a_chat_says(server: Running) -> None:
    found = create(server, input=STORY, max_output_tokens=12, instructions="Be brief.")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": STORY}]
    expected = chat(server, messages=messages, max_tokens=12)
    assert text(found) == expected["choices"][0]["message"]["content"]
    assert (found["object"], found["model"]) == ("response", "orcinus-tiny")
    assert found["id"].startswith("resp")
    usage, counts = found["usage"], expected["usage"]
    assert usage["input_tokens"] == counts["prompt_tokens"]
    assert usage["output_tokens"] == counts["completion_tokens"] == 12
    assert usage["total_tokens"] == counts["total_tokens"]
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert found["output"][0]["status"] == "incomplete"


def test_the_stream_tells_the_same_response(server: Running) -> None:
    fields: dict[str, Any] = {"input": STORY, "max_output_tokens": 15, "metadata": {"a": "b"}, "user": "me"}
    whole = create(server, **fields)
    events = stream(server, **fields)
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    final = events[-1]["response"]
    assert without_times(final) == without_times(whole)
    assert events[0]["response"]["status"] == events[1]["response"]["status"] == "in_progress"
    assert {event["response"]["id"] for event in events if "response" in event} == {final["id"]}
    assert {event["item_id"] for event in events if "item_id" in event} == {final["output"][0]["id"]}
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert len(deltas) > 5
    assert "".join(deltas) == text(whole)
    assert final["metadata"] == {"a": "b"}


def test_an_answer_that_ends_by_itself_is_completed(server: Running) -> None:
    events = stream(server, input="Hi")
    assert kinds(events)[-1] == "completed"
    final = events[-1]["response"]
    assert (final["status"], final["incomplete_details"], final["error"]) == ("completed", None, None)


def test_logprobs_of_the_text(server: Running) -> None:
    fields: dict[str, Any] = {"input": "Hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    part = create(server, **fields)["output"][0]["content"][0]
    assert "".join(one["token"] for one in part["logprobs"]).startswith(part["text"])
    assert all(len(one["top_logprobs"]) == 2 for one in part["logprobs"])
    events = stream(server, **fields)
    told = [one for event in events if event["type"] == "response.output_text.delta" for one in event["logprobs"]]
    assert told == part["logprobs"]


@pytest.mark.parametrize("fields", [{}, {"input": []}, {"input": ""}, {"model": "orcinus-tiny", "input": [], "tools": []}])
def test_a_probe_that_says_nothing_is_answered(server: Running, fields: dict[str, Any]) -> None:
    found = create(server, **fields)
    assert (found["status"], found["output"], found["store"]) == ("completed", [], False)
    assert found["usage"]["total_tokens"] == 0
    assert kinds(stream(server, **fields)) == ["created", "in_progress", "completed"]


def test_a_probe_for_more_than_the_context_is_refused(server: Running) -> None:
    assert create(server, 400, max_output_tokens=10**6)["error"]["param"] == "max_output_tokens"


def test_a_probe_is_checked_like_a_request(server: Running) -> None:
    found = create(server, 400, text={"format": {"type": "json_schema", "name": "answer"}})
    assert found["error"]["param"] == "text.format.schema"
    assert create(server, 400, tool_choice="required")["error"]["param"] == "tool_choice"
    assert create(server, 400, allowed_token_ids=[10**6])["error"]["param"] == "allowed_token_ids[0]"


def test_refusals_and_tools_of_all_kinds_are_stored_without_a_warning(server: Running) -> None:
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    custom = {"type": "custom", "name": "free"}
    tools = [custom, {"type": "namespace", "name": "files", "tools": [custom, {"type": "function", "name": "read"}]}]
    found = create(server, input=[{"role": "user", "content": "Hi"}, refusal], tools=tools, max_output_tokens=4)
    assert [one["type"] for one in found["tools"][1]["tools"]] == ["custom", "function"]
    again = create(server, input="Hi", tools=tools, previous_response_id=found["id"], max_output_tokens=4)
    assert again["usage"]["input_tokens"] > found["usage"]["input_tokens"]


def test_what_was_left_out_is_told(server: Running) -> None:
    answer = server.http.post(
        "/v1/responses",
        json={"input": "Hi", "tools": [{"type": "web_search"}], "service_tier": "auto", "client_metadata": {"a": "b"}},
    )
    found = answer.json()
    assert found["tools"] == []
    assert found["warnings"] == ["tools[0]: this server has no web_search; the model was not told of it"]
    assert answer.headers["x-ignored-fields"] == "client_metadata, service_tier"


# Stored responses


def test_a_stored_response_can_be_fetched_and_deleted(server: Running) -> None:
    made = create(server, input="Hi")
    assert made["store"] is True
    path = f"/v1/responses/{made['id']}"
    assert server.http.get(path).json() == made
    assert server.http.delete(path).json() == {"id": made["id"], "object": "response", "deleted": True}
    for answer in (server.http.get(path), server.http.delete(path)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "response_not_found")


def test_what_shall_not_be_stored_is_not(server: Running) -> None:
    events = stream(server, input="Hi", store=False)
    made = events[-1]["response"]
    assert events[0]["response"]["store"] is made["store"] is False
    assert server.http.get(f"/v1/responses/{made['id']}").status_code == 404


def test_a_response_continues_another(server: Running) -> None:
    first = create(server, input="Hi", instructions="Be brief.")
    second = create(server, input=STORY, previous_response_id=first["id"], max_output_tokens=20)
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": text(first)},
        {"role": "user", "content": STORY},
    ]
    assert text(second) == chat(server, messages=messages, max_tokens=20)["choices"][0]["message"]["content"]
    assert second["previous_response_id"] == first["id"]
    third = create(server, input="Thanks", previous_response_id=second["id"], max_output_tokens=5)
    assert third["usage"]["input_tokens"] > second["usage"]["input_tokens"] + 20


def test_an_item_can_be_named_instead_of_sent(server: Running) -> None:
    first = create(server, input="Hi")
    question, more = {"role": "user", "content": "Hi"}, {"role": "user", "content": STORY}
    sent = create(server, input=[question, *first["output"], more], max_output_tokens=10)
    named = [question, {"type": "item_reference", "id": first["output"][0]["id"]}, more]
    assert text(create(server, input=named, max_output_tokens=10)) == text(sent)


# Conversations


def test_every_turn_of_a_conversation_finds_the_one_before_in_the_cache(server: Running) -> None:
    items: list[dict[str, Any]] = []
    before = 0
    for turn in range(fewer(10, least=4)):
        items.append({"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"Question {turn}: why?"}]})
        fields = {"instructions": "You answer questions about animals.", "input": items, "max_output_tokens": 6}
        found = stream(server, **fields, store=False, prompt_cache_key="one conversation")[-1]["response"]
        assert found["usage"]["input_tokens_details"]["cached_tokens"] >= before // BLOCK * BLOCK
        before = found["usage"]["input_tokens"]
        items += found["output"]
    assert before > (turn + 1) * BLOCK


def test_a_conversation_that_is_too_long_loses_its_oldest_turns_if_it_may(server: Running) -> None:
    turns = [{"role": "user", "content": f"{number} " + "once upon a time " * 60} for number in range(20)]
    fields: dict[str, Any] = {"instructions": "Be brief.", "input": turns, "max_output_tokens": 5}
    error = create(server, status=400, **fields)["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    found = create(server, **fields, truncation="auto")
    kept = next(count for count in range(20, 0, -1) if _fits(server, turns[-count:]))
    shorter = create(server, **fields | {"input": turns[-kept:]})
    assert 0 < kept < 20
    assert found["usage"]["input_tokens"] == shorter["usage"]["input_tokens"]
    one = {**fields, "input": [{"role": "user", "content": "once upon a time " * 2000}], "truncation": "auto"}
    assert create(server, status=400, **one)["error"]["code"] == "context_length_exceeded"


def _fits(server: Running, turns: list[dict[str, Any]]) -> bool:
    body = {"instructions": "Be brief.", "input": turns, "max_output_tokens": 5, "store": False}
    return server.http.post("/v1/responses", json=body).status_code == 200


# Errors, and clients that leave


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt-5"}, 404, "model"),
        ({"max_output_tokens": 5000}, 400, "max_output_tokens"),
        ({"input": [{"role": "user", "content": "a" * 200_000}]}, 400, "input"),
        ({"instructions": 3}, 400, "instructions"),
        ({"input": [{"type": "teapot"}]}, 400, "input[0].type"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, 400, "tool_choice"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_errors_before_the_answer_have_a_status(
    server: Running, streaming: bool, fields: dict[str, Any], status: int, param: str
) -> None:
    error = create(server, status=status, stream=streaming, **{"input": "Hi"} | fields)["error"]
    assert error["param"] == param
    assert "messages" not in error["message"]


def test_an_error_inside_a_stream_is_an_event(server: Running) -> None:
    events = stream(server, input=STORY, timeout=0.1, **WITHOUT_END)
    told, failed = events[-2:]
    assert (told["type"], told["code"], told["param"]) == ("error", "timeout", None)
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "timeout", "message": told["message"]}
    assert failed["response"]["store"] is False
    assert server.http.get(f"/v1/responses/{failed['response']['id']}").status_code == 404
    whole = create(server, status=408, input=STORY, timeout=0.1, **WITHOUT_END)
    assert whole["error"]["code"] == "timeout"


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_hangs_up_frees_its_request(
    server: Running,
    iterations: list[dict[str, Any]],  # noqa: F811
    streaming: bool,
) -> None:
    async def leave() -> None:
        async with httpx.AsyncClient(base_url=server.url) as client:
            asked = asyncio.create_task(client.post("/v1/responses", json={"input": "Hi", "stream": streaming} | WITHOUT_END))
            await asyncio.to_thread(wait_for, iterations)
            asked.cancel()

    asyncio.run(leave())
    settle(iterations, 80)
    assert not ran(iterations[-40:]), "it would run for 1500"


def test_neighbours_of_wrong_requests_are_not_disturbed(server: Running) -> None:
    alone = create(server, input=STORY, max_output_tokens=25)
    answers: list[dict[str, Any]] = []
    beside = threading.Thread(target=lambda: answers.append(create(server, input=STORY, max_output_tokens=25)))
    beside.start()
    for body in ({"input": [3]}, {"input": "Hi", "max_output_tokens": 5000}, {"input": "Hi", "tools": 3}):
        create(server, status=400, **body)
    beside.join()
    assert text(answers[0]) == text(alone)


# What agents send


def test_codex_keeps_its_own_instructions(server: Running) -> None:
    """An entry of `models` would replace them; a response without that list is an error to Codex."""
    assert server.http.get("/v1/models?client_version=0.150.0").json()["models"] == []
