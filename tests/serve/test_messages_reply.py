"""Answers as Anthropic's messages: whole, and as the events of a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orcinus.core.request import Finish, FinishCode, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.serve.answers import Answers, ChoiceDelta
from orcinus.serve.dialects.messages import MessagesReply
from orcinus.serve.dialects.messages_schema import MessagesBody
from orcinus.serve.dialects.reply import ServedModel
from orcinus.serve.schema import ChatBody
from orcinus.serve.streams import PromptRead
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.tools.tool_call import ToolCallDelta

BODY = ChatBody.model_validate({"messages": [{"role": "user", "content": "?"}]})
Fresh = ChoiceDelta | PromptRead


class Scripted(Answers):
    """Answers whose deltas are given; a list is what comes at once, an empty one is silence."""

    def __init__(self, *news: list[Fresh]) -> None:
        prepared = [TokenizedRequest(0, 0, None, (1, 2, 3, 4, 5), SamplingParams(), RequestContext())]
        super().__init__(self, BODY, prepared, None)  # type: ignore[arg-type]
        self.id, self.hung_up, self.script = "msg_1", False, news

    async def news(self, *_: float) -> AsyncIterator[Any]:
        for one in self.script:
            yield one

    def take(self, news: Any, *, merge: bool) -> list[Fresh]:
        for one in news:
            if isinstance(one, PromptRead):
                self.cached[0] = one.cached
            else:
                self.choices.setdefault(0, ChoiceDelta(0)).add(one)
        return list(news)


def delta(content: str = "", **fields: Any) -> ChoiceDelta:
    return ChoiceDelta(0, content, token_ids=[7], **fields)


def call(index: int, name: str | None, arguments: str) -> ChoiceDelta:
    return delta(tool_calls=[ToolCallDelta(index, f"call_{index}" if name else None, name, arguments)])


READ = PromptRead(0, 0, 5, 2)
END = delta(finish_reason="stop")
CALLS = [
    [READ],
    [delta(reasoning="Two ", reasoning_tokens=1), delta(reasoning="zones.", reasoning_tokens=1)],
    [delta("Let me "), delta("see.")],
    [call(0, "clock", '{"zone":'), call(0, None, ' "UTC"}')],
    [call(1, "clock", "{}"), delta(finish_reason="tool_calls")],
]


def reply(*news: list[Fresh], **fields: Any) -> MessagesReply:
    body = MessagesBody.model_validate({"messages": [{"role": "user", "content": "?"}], "max_tokens": 50} | fields)
    return MessagesReply(Scripted(*news), ServedModel("m"), body)


def whole(*news: list[Fresh], **fields: Any) -> dict[str, Any]:
    return asyncio.run(reply(*news, **fields).whole())


def events(*news: list[Fresh], **fields: Any) -> list[dict[str, Any]]:
    async def read() -> bytes:
        return b"".join([frame async for frame in reply(*news, **fields).frames(60, 0)])

    found = []
    for frame in asyncio.run(read()).decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def gathered(stream: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client gathers from a stream."""
    message: dict[str, Any] = stream[0]["message"]
    for event in stream[1:]:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert event["index"] == len(message["content"]) - 1
                block, (kind, (field, piece)) = message["content"][-1], (event["delta"].pop("type"), *event["delta"].items())
                assert kind == {"partial_json": "input_json_delta"}.get(field, f"{field}_delta")
                if field == "partial_json":
                    block["json"] = block.get("json", "") + piece
                else:
                    block[field] += piece
            case "content_block_stop":
                block = message["content"][event["index"]]
                if block["type"] == "tool_use":
                    block["input"] = json.loads(block.pop("json"))
            case "message_delta":
                message |= event["delta"] | {"usage": event["usage"]}
    return message


def test_a_whole_message_has_reasoning_text_and_calls() -> None:
    message = whole(*CALLS)
    thinking, *others = message["content"]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "Two zones.")
    assert thinking["signature"]
    assert others == [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "toolu_0", "name": "clock", "input": {"zone": "UTC"}},
        {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {}},
    ]
    assert (message["stop_reason"], message["stop_sequence"]) == ("tool_use", None)
    assert (message["id"], message["type"], message["role"], message["model"]) == ("msg_1", "message", "assistant", "m")


def test_what_was_cached_is_no_input() -> None:
    assert whole(*CALLS)["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 2,
        "output_tokens": 8,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_a_stream_begins_with_the_prompts_counts_and_ends_with_the_answers() -> None:
    stream = events(*CALLS)
    begun = stream[0]["message"]
    assert (begun["content"], begun["stop_reason"]) == ([], None)
    assert (begun["usage"]["input_tokens"], begun["usage"]["cache_read_input_tokens"]) == (3, 2)
    assert stream[-2]["usage"] == whole(*CALLS)["usage"]
    assert [event["type"] for event in stream[-2:]] == ["message_delta", "message_stop"]


def test_blocks_begin_and_end_one_after_the_other() -> None:
    block = ["content_block_start", "content_block_delta", "content_block_delta"]
    assert [event["type"] for event in events(*CALLS)[1:-2]] == [
        *(*block, "content_block_delta", "content_block_stop"),  # the third delta of reasoning is its signature
        *(*block, "content_block_stop"),
        *(*block, "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    ]


@pytest.mark.parametrize(
    "news",
    [
        CALLS,
        [[READ], [END]],
        [[delta("Hi")], [END]],
        [[READ, delta("H", reasoning="hm"), delta("i"), END]],
        [[READ], [call(0, "clock", "{}"), delta("Done."), END]],
    ],
    ids=range(5),
)
def test_a_stream_gathers_to_the_whole_message(news: list[list[Fresh]]) -> None:
    message, streamed = whole(*news), gathered(events(*news))
    for one in (message, streamed):
        one["content"].sort(key=lambda block: block["type"])
    assert streamed == message


def test_a_silent_stream_is_pinged() -> None:
    assert [event["type"] for event in events([], [READ], [], [END])][:3] == ["ping", "message_start", "ping"]


def test_the_signature_is_of_the_reasoning() -> None:
    one, other = (whole([delta(reasoning=text)], [END])["content"][0]["signature"] for text in ("a", "b"))
    assert one != other


def test_reasoning_can_be_left_out() -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    message, streamed = whole(*CALLS, thinking=thinking), gathered(events(*CALLS, thinking=thinking))
    assert streamed == message
    assert message["content"][0] == {**whole(*CALLS)["content"][0], "thinking": ""}


@pytest.mark.parametrize(
    ("ending", "max_tokens", "reason", "sequence"),
    [
        ({"finish_reason": "stop"}, 50, "end_turn", None),
        ({"finish_reason": "stop", "stop_string": "\n\n"}, 50, "stop_sequence", "\n\n"),
        ({"finish_reason": "tool_calls"}, 50, "tool_use", None),
        ({"finish_reason": "length"}, 2, "max_tokens", None),
        ({"finish_reason": "length"}, 50, "model_context_window_exceeded", None),
    ],
)
def test_why_an_answer_ended(ending: dict[str, Any], max_tokens: int, reason: str, sequence: str | None) -> None:
    news: list[list[Fresh]] = [[delta("Hi")], [delta(**ending)]]
    for message in (whole(*news, max_tokens=max_tokens), gathered(events(*news, max_tokens=max_tokens))):
        assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


@pytest.mark.parametrize("arguments", ['{"a" 1}', '{"a": tru3}', "{'a': 1}", '{"a": "\\ud800"}', '{"a":' * 3000])
def test_arguments_that_are_no_json_are_given_as_they_are(arguments: str) -> None:
    (block,) = whole([call(0, "clock", arguments), delta(finish_reason="tool_calls")])["content"]
    assert block["input"] == {"INVALID_JSON": arguments}


def test_arguments_that_were_cut_are_what_is_certain_of_them() -> None:
    message = whole([call(0, "clock", '{"zone": "UTC", "form": "lo')], [delta(finish_reason="length")])
    assert message["content"][0]["input"] == {"zone": "UTC"}


def test_an_error_in_a_stream_is_an_event_and_its_last() -> None:
    stream = events([READ], [delta("Hi")], [delta(finish_reason=Finish.CANCELLED, code=FinishCode.DEADLINE)])
    assert stream[-1] == {
        "type": "error",
        "error": {"type": "timeout_error", "message": "the request took longer than its timeout"},
        "request_id": "msg_1",
    }
    assert "message_delta" not in [event["type"] for event in stream]
