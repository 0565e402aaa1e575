"""Items and events of a response, from deltas: equal ids, equal texts, one order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from orcinus.serve.answers import ChoiceDelta
from orcinus.serve.custom_tools import CustomInput, custom_arguments
from orcinus.serve.dialects.responses_input import seal_reasoning
from orcinus.serve.dialects.responses_output import Output
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.dialects.responses_tools import Tools, read_tools
from orcinus.text.tools.tool_call import ToolCallDelta


def tools() -> Tools:
    """A function, a custom tool and a namespace."""
    inner = {"type": "function", "name": "search"}
    specs = [
        {"type": "function", "name": "shell"},
        {"type": "custom", "name": "patch"},
        {"type": "namespace", "name": "mcp__docs", "tools": [inner]},
    ]
    return read_tools(ResponsesBody.model_validate({"tools": specs}).tools)


def text(content: str = "", reasoning: str = "") -> ChoiceDelta:
    return ChoiceDelta(0, content=content, reasoning=reasoning)


def called(index: int, arguments: str, name: str | None = None) -> ChoiceDelta:
    """A piece of a tool call; the first one has the name."""
    return ChoiceDelta(0, tool_calls=[ToolCallDelta(index, f"call_{index}" if name else None, name, arguments)])


def run(deltas: Iterable[ChoiceDelta], *, complete: bool = True, sealed: bool = False) -> tuple[Output, list[dict[str, Any]]]:
    """The output, and its events as a client reads them: encoded when they came."""
    output = Output("1", tools(), sealed)
    events = [json.loads(json.dumps(event)) for delta in deltas for event in output.add(delta, [])]
    return output, events + [json.loads(json.dumps(event)) for event in output.finish(complete=complete)]


def gathered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items as a client gathers them from deltas alone."""
    items: list[dict[str, Any]] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert event["output_index"] == len(items)
            items.append(event["item"])
        elif kind == "content_part.added":
            items[event["output_index"]]["content"].append(event["part"])
        elif kind in ("output_text.delta", "reasoning_text.delta"):
            items[event["output_index"]]["content"][event["content_index"]]["text"] += event["delta"]
        elif kind == "function_call_arguments.delta":
            items[event["output_index"]]["arguments"] += event["delta"]
        elif kind == "custom_tool_call_input.delta":
            items[event["output_index"]]["input"] += event["delta"]
        elif kind == "output_item.done":
            items[event["output_index"]]["status"] = event["item"]["status"]
            assert items[event["output_index"]] == event["item"]
        if "item_id" in event:
            assert event["item_id"] == items[event["output_index"]]["id"]
    return items


def test_a_message() -> None:
    output, events = run([text("Hel"), text("lo")])
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}
    assert output.items == [
        {"id": "msg_1_0", "type": "message", "status": "completed", "role": "assistant", "content": [part]},
    ]
    assert [event["type"].removeprefix("response.") for event in events] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]
    assert events[0]["item"] == {**output.items[0], "status": "in_progress", "content": []}
    assert events[4]["text"] == "Hello"
    assert events[5]["part"] == part
    assert gathered(events) == output.items


def test_reasoning_a_message_and_calls_of_each_kind() -> None:
    output, events = run(
        [
            text(reasoning="Hm"),
            text(reasoning="m."),
            text("\n\n"),
            text("I look."),
            called(0, "", "shell"),
            called(0, '{"command"'),
            called(0, ': "ls"}'),
            text("\n"),
            called(1, "{}", "mcp__docs__search"),
            called(2, '{"input": "a\\', "patch"),
            called(2, 'n\\u00e9"}'),
        ]
    )
    reasoning, message, shell, search, patch = output.items
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
    assert reasoning["summary"] == []
    assert message["content"][0]["text"] == "\n\nI look."
    assert shell == {
        "id": "fc_1_2",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_0",
        "name": "shell",
        "arguments": '{"command": "ls"}',
    }
    assert (search["name"], search["namespace"], search["call_id"]) == ("search", "mcp__docs", "call_1")
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "patch", "a\né")
    assert len({item["id"] for item in output.items}) == 5
    assert gathered(events) == output.items
    done = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert [(one["name"], one["arguments"]) for one in done] == [("shell", '{"command": "ls"}'), ("search", "{}")]
    inputs = [event for event in events if event["type"].startswith("response.custom_tool_call_input")]
    assert [one.get("delta", one.get("input")) for one in inputs] == ["a", "\né", "a\né"]


def test_one_delta_with_everything() -> None:
    both = ChoiceDelta(0, content="B", reasoning="A", tool_calls=[ToolCallDelta(0, "call_0", "shell", "{}")])
    output, events = run([both])
    assert [item["type"] for item in output.items] == ["reasoning", "message", "function_call"]
    assert gathered(events) == output.items


def test_text_after_a_call_is_a_message_of_its_own() -> None:
    output, events = run([text("A"), called(0, "{}", "shell"), text("B")])
    assert [item["type"] for item in output.items] == ["message", "function_call", "message"]
    assert gathered(events) == output.items


def test_white_space_beside_calls_is_no_message() -> None:
    output, _ = run([text("\n"), called(0, "{}", "shell"), text("\n"), called(1, "{}", "shell"), text("\n")])
    assert [item["type"] for item in output.items] == ["function_call", "function_call"]


def test_white_space_alone_is_the_answer() -> None:
    output, events = run([text(" "), text("\n")])
    assert output.items[0]["content"][0]["text"] == " \n"
    assert gathered(events) == output.items


def test_an_answer_without_text_is_an_empty_message() -> None:
    output, events = run([text()])
    assert [item["content"][0]["text"] for item in output.items] == [""]
    assert gathered(events) == output.items


@pytest.mark.parametrize("delta", [text("Hel"), text(reasoning="Hm"), called(0, '{"a', "shell"), called(0, '{"inp', "patch")])
def test_what_is_cut_is_incomplete(delta: ChoiceDelta) -> None:
    output, events = run([delta], complete=False)
    assert [item["status"] for item in output.items] == ["incomplete"]
    assert gathered(events) == output.items


def test_cut_before_any_text_there_is_no_item() -> None:
    output, events = run([text()], complete=False)
    assert (output.items, events) == ([], [])


def test_sealed_reasoning() -> None:
    output, events = run([text(reasoning="Hm"), text("Hi")], sealed=True)
    assert output.items[0]["encrypted_content"] == seal_reasoning("Hm")
    done = next(event for event in events if event["type"] == "response.output_item.done")
    assert done["item"] == output.items[0]


@pytest.mark.parametrize("written", ["", "plain", 'a "quote" \\ and\na line', "é😀\u2028", "\x00\x1f", "\\ud83d"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_input_of_a_custom_tool_is_decoded_piece_by_piece(written: str, ascii_only: bool) -> None:
    arguments = json.dumps({"input": written}, ensure_ascii=ascii_only)
    for size in (1, 2, 5, len(arguments)):
        decoded = CustomInput()
        pieces = [decoded.add(arguments[at : at + size]) for at in range(0, len(arguments), size)]
        assert "".join(pieces) == decoded.text == written
        assert decoded.finish() == ""
    assert json.loads(custom_arguments(written)) == {"input": written}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [('{"other": 1, "input": "x"}', "x"), ('{"patch": "x"}', '{"patch": "x"}'), ("x", "x"), ('{"input": 3}', '{"input": 3}')],
)
def test_arguments_of_another_form_are_taken_whole(arguments: str, found: str) -> None:
    decoded = CustomInput()
    assert decoded.add(arguments) == ""
    assert decoded.finish() == decoded.text == found
