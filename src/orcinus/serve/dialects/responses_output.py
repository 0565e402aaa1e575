"""The output of a response: items made of deltas, and their events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orcinus.serve.answers import ChoiceDelta
from orcinus.serve.custom_tools import CustomInput
from orcinus.serve.dialects.responses_input import seal_reasoning
from orcinus.serve.dialects.responses_tools import Tools
from orcinus.text.tools.tool_call import ToolCallDelta

Json = dict[str, Any]


@dataclass
class OpenItem:
    """The item that is being written, in its place in the output."""

    index: int
    item: Json
    call: int | None = None  # index of its tool call
    custom: CustomInput | None = None  # if it calls a custom tool

    @property
    def kind(self) -> str:
        """The item's type."""
        return str(self.item["type"])

    def event(self, name: str, /, **fields: Any) -> Json:
        """An event about this item."""
        return {"type": f"response.{name}", "item_id": self.item["id"], "output_index": self.index, **fields}


@dataclass
class Output:
    """Items of a response, in the model's order.

    Every method that adds to it gives the events that a stream has for it. White space alone is no message: it waits until text
    follows, and is left out beside tool calls.
    """

    suffix: str  # makes ids unique
    tools: Tools
    sealed: bool = False  # whether reasoning items carry their text in `encrypted_content`, too
    items: list[Json] = field(default_factory=list)
    _open: OpenItem | None = None
    _space: str = ""
    _space_logprobs: list[Json] = field(default_factory=list)

    def add(self, delta: ChoiceDelta, logprobs: list[Json]) -> Iterator[Json]:
        """Add a delta; `logprobs` are those of its text."""
        if delta.reasoning:
            yield from self._add_reasoning(delta.reasoning)
        if delta.content:
            yield from self._add_text(delta.content, logprobs)
        for call in delta.tool_calls:
            yield from self._add_call(call)

    def finish(self, *, complete: bool) -> Iterator[Json]:
        """End the output; the last item of an incomplete response is incomplete."""
        calls = any(item["type"] in ("function_call", "custom_tool_call") for item in self.items)
        if not calls and (self._space or (complete and self._is_silent())):
            yield from self._write_text("", [])
        yield from self._close("completed" if complete else "incomplete")

    def _is_silent(self) -> bool:
        return all(item["type"] == "reasoning" for item in self.items)

    # One kind of item each

    def _add_reasoning(self, text: str) -> Iterator[Json]:
        if self._open is None or self._open.kind != "reasoning":
            yield from self._begin("reasoning", "rs", {"summary": [], "content": []})
            yield from self._begin_part({"type": "reasoning_text", "text": ""})
        assert self._open is not None
        self._open.item["content"][0]["text"] += text
        yield self._open.event("reasoning_text.delta", content_index=0, delta=text)

    def _add_text(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        in_message = self._open is not None and self._open.kind == "message"
        if not in_message and not text.strip():
            self._space += text
            self._space_logprobs += logprobs
            return
        yield from self._write_text(text, logprobs)

    def _write_text(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        text, logprobs = self._space + text, self._space_logprobs + logprobs
        self._space, self._space_logprobs = "", []
        if self._open is None or self._open.kind != "message":
            yield from self._begin("message", "msg", {"role": "assistant", "content": []})
            yield from self._begin_part({"type": "output_text", "annotations": [], "logprobs": [], "text": ""})
        assert self._open is not None
        part = self._open.item["content"][0]
        part["text"] += text
        part["logprobs"] += logprobs
        if text:
            yield self._open.event("output_text.delta", content_index=0, delta=text, logprobs=logprobs)

    def _add_call(self, call: ToolCallDelta) -> Iterator[Json]:
        if self._open is None or self._open.call != call.index:
            yield from self._begin_call(call)
        assert self._open is not None
        if self._open.custom is not None:
            yield from self._add_input(self._open.custom.add(call.arguments))
        elif call.arguments:
            self._open.item["arguments"] += call.arguments
            yield self._open.event("function_call_arguments.delta", delta=call.arguments)

    def _begin_call(self, call: ToolCallDelta) -> Iterator[Json]:
        self._space, self._space_logprobs = "", []
        own = self.tools.find(call.name or "")
        named = {"call_id": call.id, **own.fields}
        if own.kind == "custom":
            yield from self._begin("custom_tool_call", "ctc", {**named, "input": ""})
        else:
            yield from self._begin("function_call", "fc", {**named, "arguments": ""})
        assert self._open is not None
        self._open.call, self._open.custom = call.index, CustomInput() if own.kind == "custom" else None

    def _add_input(self, text: str) -> Iterator[Json]:
        assert self._open is not None
        if text:
            self._open.item["input"] += text
            yield self._open.event("custom_tool_call_input.delta", delta=text)

    # Beginnings and ends

    def _begin(self, kind: str, prefix: str, fields: Json) -> Iterator[Json]:
        yield from self._close("completed")
        index = len(self.items)
        item = {"id": f"{prefix}_{self.suffix}_{index}", "type": kind, "status": "in_progress", **fields}
        self._open = OpenItem(index, item)
        self.items.append(item)
        yield {"type": "response.output_item.added", "output_index": index, "item": _copy(item)}

    def _begin_part(self, part: Json) -> Iterator[Json]:
        assert self._open is not None
        self._open.item["content"].append(part)
        yield self._open.event("content_part.added", content_index=0, part=_copy(part))

    def _close(self, status: str) -> Iterator[Json]:
        """End the open item; its last events repeat all of it."""
        opened = self._open
        if opened is None:
            return
        item = opened.item
        if opened.custom is not None:
            yield from self._add_input(opened.custom.finish())
            yield opened.event("custom_tool_call_input.done", input=item["input"])
        elif opened.kind == "function_call":
            yield opened.event("function_call_arguments.done", name=item["name"], arguments=item["arguments"])
        else:
            yield from _close_part(opened)
        item["status"] = status
        if self.sealed and opened.kind == "reasoning":
            item["encrypted_content"] = seal_reasoning(item["content"][0]["text"])
        self._open = None
        yield {"type": "response.output_item.done", "output_index": opened.index, "item": item}


def _close_part(opened: OpenItem) -> Iterator[Json]:
    part = opened.item["content"][0]
    if opened.kind == "message":
        yield opened.event("output_text.done", content_index=0, text=part["text"], logprobs=part["logprobs"])
    else:
        yield opened.event("reasoning_text.done", content_index=0, text=part["text"])
    yield opened.event("content_part.done", content_index=0, part=part)


def _copy(item: Json) -> Json:
    """A copy that later deltas do not change."""
    return {name: list(value) if isinstance(value, list) else value for name, value in item.items()}
