"""A small server that answers right in the forms of Responses, of Messages and of tool calls."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.wrong_server import CARD, WORDS, Json

CITY, DAY = "Rome", 2
ARGUMENTS = json.dumps({"city": CITY, "days": DAY})
TEXT = "".join(WORDS)
USAGE: Json = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 1},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 5,
}


def respond(method: str, path: str, body: Json) -> tuple[int, Any]:
    """The right answer to a request for text or for a call."""
    if path.startswith("/v1/models"):
        return 200, {"object": "list", "data": [CARD]}
    calls = bool(body.get("tools")) and body.get("tool_choice") not in (None, "none", "auto")
    if path == "/v1/responses":
        return 200, response_events(calls) if body.get("stream") else response(calls)
    if path == "/v1/messages":
        return 200, message_events(calls) if body.get("stream") else message(calls)
    return 200, call_frames() if body.get("stream") else chat()


def response(calls: bool) -> Json:
    """A response of a message or of a function call."""
    part = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
    said: Json = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    call = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "c_1", "name": "forecast"}
    output = [call | {"arguments": ARGUMENTS}] if calls else [said]
    return {"id": "resp_1", "object": "response", "status": "completed", "output": output, "usage": USAGE}


def response_events(calls: bool) -> list[Json]:
    """The same as events."""
    whole = response(calls)
    (item,) = whole["output"]
    started = whole | {"status": "in_progress", "output": [], "usage": None}
    about = {"output_index": 0, "item_id": item["id"]}
    if calls:
        opened = item | {"arguments": "", "status": "in_progress"}
        inside = [
            *({"type": "function_call_arguments.delta", "delta": one} for one in (ARGUMENTS[:5], ARGUMENTS[5:])),
            {"type": "function_call_arguments.done", "arguments": ARGUMENTS},
        ]
    else:
        opened = item | {"content": [], "status": "in_progress"}
        place = {"content_index": 0}
        inside = [
            {"type": "content_part.added", **place, "part": item["content"][0] | {"text": ""}},
            *({"type": "output_text.delta", **place, "delta": word} for word in WORDS),
            {"type": "output_text.done", **place, "text": TEXT},
            {"type": "content_part.done", **place, "part": item["content"][0]},
        ]
    events = [
        {"type": "created", "response": started},
        {"type": "in_progress", "response": started},
        {"type": "output_item.added", "output_index": 0, "item": opened},
        *({**about, **one} for one in inside),
        {"type": "output_item.done", "output_index": 0, "item": item},
        {"type": "completed", "response": whole},
    ]
    return [event | {"type": f"response.{event['type']}", "sequence_number": n} for n, event in enumerate(events)]


def message(calls: bool) -> Json:
    """A message of text or of a tool's use."""
    used = {"type": "tool_use", "id": "t_1", "name": "forecast", "input": {"city": CITY, "days": DAY}}
    content = [used] if calls else [{"type": "text", "text": TEXT}]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 1, "output_tokens": 2},
    }


def message_events(calls: bool) -> list[Json]:
    """The same as events."""
    whole = message(calls)
    (block,) = whole["content"]
    empty, pieces = ({"input": {}}, (ARGUMENTS[:5], ARGUMENTS[5:])) if calls else ({"text": ""}, tuple(WORDS))
    deltas = [
        {"type": "input_json_delta", "partial_json": one} if calls else {"type": "text_delta", "text": one} for one in pieces
    ]  # fmt: skip
    changes = {name: whole[name] for name in ("stop_reason", "stop_sequence")}
    return [
        {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": block | empty},
        *({"type": "content_block_delta", "index": 0, "delta": one} for one in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": changes, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]


def chat() -> Json:
    """A chat's answer that is one call."""
    function = {"name": "forecast", "arguments": ARGUMENTS}
    told = {"role": "assistant", "content": None, "tool_calls": [{"id": "c_1", "type": "function", "function": function}]}
    return {"choices": [{"index": 0, "message": told, "finish_reason": "tool_calls"}]}


def call_frames() -> list[Json | str]:
    """The same as a stream."""
    first = {"index": 0, "id": "c_1", "type": "function", "function": {"name": "forecast", "arguments": ""}}
    calls = [first, *({"index": 0, "function": {"arguments": one}} for one in (ARGUMENTS[:5], ARGUMENTS[5:]))]
    deltas: list[Json] = [{"tool_calls": [one]} for one in calls]
    frames = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    return [{"choices": [one]} for one in (*frames, {"index": 0, "delta": {}, "finish_reason": "tool_calls"})] + ["[DONE]"]
