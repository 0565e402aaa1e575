"""Bodies of `POST /v1/responses` as chats."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from orcinus.errors import shown
from orcinus.serve.custom_tools import custom_arguments
from orcinus.serve.dialects.field_names import FieldNames
from orcinus.serve.dialects.responses_items import (
    Content,
    CustomToolCallItem,
    FunctionCallItem,
    InputItem,
    InputMessage,
    ReasoningItem,
    RefusalPart,
    ToolOutputItem,
)
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.dialects.responses_tools import Tools, flat_name, read_tools
from orcinus.serve.errors import invalid
from orcinus.serve.schema import ChatBody, Sampler
from orcinus.serve.validation import enumerated, invalid_fields

SAME = (*(name for name in Sampler.model_fields if name != "user"), "chat_template_kwargs", "thinking_token_budget")
REASONING = "orcinus:"  # in front of reasoning that a client keeps for us in `encrypted_content`
LOGPROBS = "message.output_text.logprobs"


@dataclass
class ResponsesChat:
    """A body as a chat, and what its answer needs besides."""

    body: ChatBody
    tools: Tools
    names: FieldNames
    warnings: list[str]


@dataclass
class History:
    """Input items as messages of a chat, with their places.

    Reasoning, text and calls of one turn become one message of the assistant. Instructions and the developer's messages at the
    beginning become one system message, because many templates have room for one.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # fields of messages and the client's own
    warnings: list[str] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)  # call id -> name of the function
    open_calls: dict[str, str] = field(default_factory=dict)  # call id without output yet -> place of the call
    preamble: list[str] = field(default_factory=list)  # texts of the first system message after the first one

    def add(self, item: InputItem, place: str) -> None:
        """Add an item. Raises `ApiError` for the output of an unknown call."""
        if isinstance(item, InputMessage):
            self.add_message(item.role, text_of(item.content), place, f"{place}.content")
        elif isinstance(item, FunctionCallItem | CustomToolCallItem):
            self._add_call(item, place)
        elif isinstance(item, ToolOutputItem):
            if item.call_id not in self.calls:
                where = f"{place}.call_id"
                raise invalid(where, f"{where}: there is no call of this id before it; send the call, too")
            self.open_calls.pop(item.call_id, None)
            message = {"role": "tool", "content": text_of(item.output), "tool_call_id": item.call_id}
            self._append(message | {"name": self.calls[item.call_id]}, place, content=f"{place}.output")
        elif isinstance(item, ReasoningItem):
            self._add_reasoning(item, place)

    def add_message(self, role: str, text: str, place: str, content_place: str) -> None:
        """Add a message."""
        last = self.messages[-1] if self.messages else None
        if role in ("system", "developer"):
            if last is not None and len(self.messages) == 1 and last["role"] == "system":
                self.preamble.append(text)
                return
            role = "system"
        if (
            role == "assistant"
            and last is not None
            and last["role"] == role
            and not ("content" in last or "tool_calls" in last)
        ):
            last["content"] = text
            self.names[f"messages[{len(self.messages) - 1}].content"] = content_place
            return
        self._append({"role": role, "content": text}, place, content=content_place)

    def finish(self) -> list[dict[str, Any]]:
        """The messages, each with a content. Raises `ApiError` for a call without output."""
        if self.open_calls:
            where, names = next(iter(self.open_calls.values())), enumerated([*map(shown, self.open_calls)])
            raise invalid(where, f"{where}: there is no output of the calls {names}; send an item with the output of each")
        if self.preamble:
            self.messages[0]["content"] = "\n\n".join((self.messages[0]["content"], *self.preamble))
            self.preamble = []
        return [{"content": None, **message} for message in self.messages]

    def _append(self, message: dict[str, Any], place: str, **fields: str) -> None:
        index = len(self.messages)
        self.messages.append(message)
        self.names[f"messages[{index}]"] = place
        self.names |= {f"messages[{index}].{name}": where for name, where in fields.items()}

    def _add_call(self, item: FunctionCallItem | CustomToolCallItem, place: str) -> None:
        """Add a call to the assistant's current turn."""
        custom = isinstance(item, CustomToolCallItem)
        name = flat_name(item.name, item.namespace)
        arguments = custom_arguments(item.input) if isinstance(item, CustomToolCallItem) else item.arguments
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self._append({"role": "assistant"}, place)
        calls = self.messages[-1].setdefault("tool_calls", [])
        prefix = f"messages[{len(self.messages) - 1}].tool_calls[{len(calls)}]"
        self.names |= {prefix: place, f"{prefix}.function": place, f"{prefix}.id": f"{place}.call_id"}
        self.names[f"{prefix}.function.arguments"] = f"{place}.{'input' if custom else 'arguments'}"
        calls.append({"id": item.call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
        self.calls[item.call_id] = name
        self.open_calls[item.call_id] = f"{place}.call_id" if place.startswith("input") else place

    def _add_reasoning(self, item: ReasoningItem, place: str) -> None:
        text = "".join(part.text for part in item.content or ())
        if not text and item.encrypted_content:
            text = open_reasoning(item.encrypted_content) or ""
            if not text:
                self.warnings.append(f"{place}.encrypted_content: it is not of this server and was left out")
        if text:
            self._append({"role": "assistant", "reasoning_content": text}, place, reasoning_content=f"{place}.content")


def text_of(content: Content) -> str:
    """The text of a content: a string, or all parts."""
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in content)


def seal_reasoning(text: str) -> str:
    """Reasoning for a client to keep and send back: encoded, not secret."""
    return REASONING + base64.b64encode(text.encode()).decode()


def open_reasoning(sealed: str) -> str | None:
    """The reasoning that `seal_reasoning` encoded; None for any other string."""
    if not sealed.startswith(REASONING):
        return None
    try:
        return base64.b64decode(sealed.removeprefix(REASONING), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def to_chat(body: ResponsesBody, items: Sequence[tuple[str, InputItem]]) -> ResponsesChat:
    """The chat of a body and its placed items. Raises `ApiError`.

    The items are those of the history that the body names, and then its own.
    """
    tools = read_tools(body.tools)
    history = History()
    if body.instructions:
        history.add_message("system", body.instructions, "instructions", "instructions")
    for place, item in items:
        history.add(item, place)
    fields = {name: value for name in SAME if (value := getattr(body, name)) is not None}
    fields |= _options(body) | {"messages": history.finish(), "tool_choice": tools.choose(body.tool_choice)}
    fields |= {"tools": tools.functions or None, "parallel_tool_calls": body.parallel_tool_calls}
    names = FieldNames(NAMES | history.names | dict(tools.names()))
    fields = {name: value for name, value in fields.items() if value is not None}
    try:
        chat = ChatBody.model_validate(fields)
    except ValidationError as error:
        raise names.translate(invalid_fields(fields, error)) from None
    return ResponsesChat(chat, tools, names, tools.warnings + history.warnings)


NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
    "tool_choice.function": "tool_choice",
    "tool_choice.custom": "tool_choice",
}


def _options(body: ResponsesBody) -> dict[str, Any]:
    """Options of the answer under a chat's names. Raises `ApiError`."""
    if body.stream_options is not None and body.stream_options.model_fields_set and not body.stream:
        raise invalid("stream_options", "stream_options needs stream: true")
    options: dict[str, Any] = {"max_completion_tokens": body.max_output_tokens, "stream": body.stream}
    options["user"] = body.user or body.safety_identifier
    options["reasoning_effort"] = body.reasoning.effort if body.reasoning else None
    if body.top_logprobs is not None or LOGPROBS in (body.include or ()):
        options |= {"logprobs": True, "top_logprobs": body.top_logprobs}
    form = body.text.format if body.text else None
    if form is not None and form.type == "json_object":
        options["response_format"] = {"type": form.type}
    elif form is not None and form.type == "json_schema":
        if form.schema_ is None:
            raise invalid("text.format.schema", "text.format.schema: is required for json_schema")
        schema = {"name": form.name or "answer", "description": form.description, "schema": form.schema_, "strict": form.strict}
        known = {name: value for name, value in schema.items() if value is not None}
        options["response_format"] = {"type": form.type, "json_schema": known}
    return options
