"""The rules for the events of a streamed message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from orcinus.conformance.target import Json, NamedEvent
from orcinus.conformance.verdict import Failed, expect, expect_equal

# The deltas that each type of block may have, and the field of the block that they add to.
DELTAS: dict[str, dict[str, str | None]] = {
    "text": {"text_delta": "text", "citations_delta": None},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
}


def check_events(events: Sequence[NamedEvent]) -> Json:
    """The message that a stream adds up to. Raises `Failed` unless its events keep all rules."""
    told = [event for event in events if event.name != "ping"]
    first, *middle, last_but_one, last = told
    expect_equal(first.name, "message_start", "the first event")
    expect_equal([last_but_one.name, last.name], ["message_delta", "message_stop"], "the last events")
    message: Json = first.content["message"]
    expect_equal(message["content"], [], "the content of message_start")
    expect_equal(message["stop_reason"], None, "the stop_reason of message_start")
    blocks = _Blocks()
    for event in middle:
        blocks.add(event)
    expect(blocks.open is None, "a block never stops")
    changes = last_but_one.content
    usage = message["usage"] | changes["usage"]
    return {**message, "content": blocks.ended, **changes["delta"], "usage": usage}


class _Blocks:
    """The blocks that events tell of, one open at a time."""

    def __init__(self) -> None:
        self.ended: list[Json] = []
        self.open: Json | None = None
        self._arguments = ""

    def add(self, event: NamedEvent) -> None:
        """Take the next event. Raises `Failed` if it is out of place."""
        content = event.content
        expect_equal(content.get("index"), len(self.ended), f"the index of {event.name}")
        if event.name == "content_block_start":
            expect(self.open is None, "a block starts before the last one stops")
            self.open, self._arguments = dict(content["content_block"]), ""
        elif self.open is None:
            raise Failed(f"{event.name} comes outside of a block")
        elif event.name == "content_block_delta":
            self._change(self.open, content["delta"])
        else:
            expect_equal(event.name, "content_block_stop", "an event inside of a block")
            self._end(self.open)

    def _change(self, block: Json, delta: Json) -> None:
        kind = delta["type"]
        fields = DELTAS.get(block["type"], {})
        expect(kind in fields, f"a {kind} in a block of type {block['type']}")
        field = fields[kind]
        if field == "partial_json":
            self._arguments += delta[field]
        elif field is not None:
            block[field] = block.get(field, "") + delta[field]

    def _end(self, block: Json) -> None:
        if block["type"] == "tool_use":
            expect_equal(block["input"], {}, "the input of a block that starts")
            block["input"] = _json(self._arguments)
        self.ended.append(block)
        self.open = None


def _json(arguments: str) -> Any:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        raise Failed(f"the pieces of an input are no JSON: {arguments[:60]!r}") from None
