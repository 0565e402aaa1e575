"""The rules for the events of a streamed response."""

from __future__ import annotations

from collections.abc import Sequence

from orcinus.conformance.target import Json, NamedEvent
from orcinus.conformance.verdict import Failed, expect, expect_equal

ENDINGS = ("completed", "incomplete")
# The kinds of deltas, and where the event that ends them has their sum.
SUMS = {
    "output_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
    "function_call_arguments": "arguments",
    "custom_tool_call_input": "input",
}


def texts_of(response: Json) -> list[str]:
    """The texts of all messages in a response's output."""
    messages = [item for item in response["output"] if item["type"] == "message"]
    return [part["text"] for message in messages for part in message["content"]]


def check_events(events: Sequence[NamedEvent]) -> Json:
    """The response that a stream ends with. Raises `Failed` unless its events keep all rules."""
    numbers = [event.content["sequence_number"] for event in events]
    expect_equal(numbers, [*range(numbers[0], numbers[0] + len(numbers))], "the sequence numbers")
    first, second, *middle, last = events
    expect_equal([first.name, second.name], ["response.created", "response.in_progress"], "the first events")
    expect(last.name in {f"response.{one}" for one in ENDINGS}, f"the last event is {last.name}")
    final: Json = last.content["response"]
    expect_equal(final["status"], last.name.removeprefix("response."), "the status of the last event")
    expect_equal(first.content["response"]["status"], "in_progress", "the status of the first event")
    for event in (first, second):
        expect_equal(event.content["response"]["id"], final["id"], "the id of the response")
    items = _Items()
    for event in middle:
        items.add(event)
    expect(items.open is None, "an item never ends")
    expect_equal(items.ended, final["output"], "the items of the stream")
    return final


class _Items:
    """The items that events tell of, one open at a time."""

    def __init__(self) -> None:
        self.ended: list[Json] = []
        self.open: Json | None = None
        self.sums: dict[tuple[str, int], str] = {}  # by kind of delta and part of the item

    def add(self, event: NamedEvent) -> None:
        """Take the next event. Raises `Failed` if it is out of place."""
        name, content = event.name.removeprefix("response."), event.content
        expect_equal(content.get("output_index"), len(self.ended), f"output_index of {name}")
        if name == "output_item.added":
            expect(self.open is None, "an item begins before the last one ends")
            self.open, self.sums = content["item"], {}
            return
        if self.open is None:
            raise Failed(f"{name} comes outside of an item")
        if name == "output_item.done":
            self._end(content["item"])
            return
        expect_equal(content["item_id"], self.open["id"], f"item_id of {name}")
        kind, _, what = name.rpartition(".")
        place = kind, content.get("content_index", 0)
        if what == "delta":
            self.sums[place] = self.sums.get(place, "") + content["delta"]
        elif what == "done" and kind in SUMS:
            expect_equal(content[SUMS[kind]], self.sums.get(place, ""), f"the sum of the deltas of {kind}")

    def _end(self, item: Json) -> None:
        assert self.open is not None
        for name in ("id", "type"):
            expect_equal(item[name], self.open[name], f"{name} of an item that ends")
        for index, part in enumerate(item.get("content") or []):
            kind = part["type"]
            if kind in SUMS:
                expect_equal(part[SUMS[kind]], self.sums.get((kind, index), ""), f"the {kind} of an item that ends")
        if item["type"] == "function_call":
            found = self.sums.get(("function_call_arguments", 0), "")
            expect_equal(item["arguments"], found, "the arguments of a call that ends")
            expect_equal(item["call_id"], self.open["call_id"], "the call_id of a call that ends")
        self.ended.append(item)
        self.open = None
