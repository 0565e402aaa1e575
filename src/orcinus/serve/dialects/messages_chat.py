"""Bodies of Anthropic's Messages API, translated into chats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from orcinus.core.sampling_params import DefaultLength
from orcinus.errors import shown
from orcinus.serve.conversation_schema import AnyToolCall, FunctionCall, Message, TemplateOptions, ToolCall
from orcinus.serve.dialects.field_names import FieldNames
from orcinus.serve.dialects.messages_schema import (
    AssistantTurn,
    CountTokensBody,
    MessagesBody,
    MessagesTool,
    SystemTurn,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserTurn,
)
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.schema import ChatBody
from orcinus.serve.structured_output_schema import JsonSchemaFormat, NamedSchema
from orcinus.serve.tool_schema import ChatTool, FunctionObject, NamedFunction, NamedToolChoice
from orcinus.serve.validation import enumerated

BILLING = "x-anthropic-billing-header"  # begins a block of Claude Code's system prompt that is new in every request
BETWEEN = "\n\n"  # between blocks of text that become one message
ERROR = "Error: "  # begins the result of a tool that failed
TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
OWN_NAMES = {  # fields of chats, and the fields of messages they come from
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "thinking_token_budget": "thinking.budget_tokens",
    "chat_template_kwargs": "thinking",
    "tool_choice.function.name": "tool_choice.name",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning_effort": "output_config.effort",
}
INDEX = re.compile(r"(?<=\w)\[(\d+)\]")
Placed = tuple[str, Message]  # a message, and the place in the body that it comes from


class MessagesNames(FieldNames):
    """Names as Anthropic's API writes them, such as `messages.2.content`."""

    def translate(self, error: ApiError) -> ApiError:
        own = super().translate(error)
        own.message = INDEX.sub(r".\1", own.message)
        if error.code == "context_length_exceeded":  # the words by which Claude Code knows that it must shorten its history
            own.message = f"prompt is too long: {own.message}"
        return own


def to_chat(body: CountTokensBody) -> tuple[ChatBody, MessagesNames]:
    """The body as a chat, and its names of the chat's fields.

    Raises `ApiError` 400.
    """
    placed = _merged(_conversation(body))
    messages, names = [message for _, message in placed], MessagesNames(dict(OWN_NAMES))
    form = "output_format" if body.output_format else "output_config.format"
    names.add({"response_format": form, "response_format.json_schema": form})
    names.add({"continue_final_message": f"messages.{len(body.messages) - 1}"})
    names.add({f"messages[{index}]": place for index, (place, _) in enumerate(placed)})
    prefilled = isinstance(body.messages[-1], AssistantTurn)
    if prefilled and (messages[-1].tool_calls or not messages[-1].content):
        where = f"messages.{len(body.messages) - 1}"
        raise invalid(where, f"{where}: the last message has no text to continue; end with a message of the user")
    thinks = _thinks(body)
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": messages,
        "chat_template_kwargs": TemplateOptions(enable_thinking=thinks, thinking=thinks),
        "continue_final_message": prefilled or None,
        "response_format": _response_format(body),
    }
    return ChatBody.model_construct(**fields, **_tools(body, names), **_options(body)), names


def _thinks(body: CountTokensBody) -> bool:
    """Whether the model reasons: only if the body says so."""
    if body.thinking is None:
        return False  # as in Anthropic's API
    if body.thinking.type == "enabled" and body.thinking.budget_tokens is None:
        raise invalid("thinking.budget_tokens", "thinking.budget_tokens: is required with the type 'enabled'")
    return body.thinking.type in ("enabled", "adaptive")


def _options(body: CountTokensBody) -> dict[str, Any]:
    """The fields of a chat besides its conversation; None: not given."""
    if not isinstance(body, MessagesBody):
        return {}
    found: dict[str, Any] = {name: getattr(body, name) for name in ("temperature", "top_p", "top_k", "stream", "slo")}
    found |= {"max_tokens": DefaultLength(body.max_tokens), "stop": body.stop_sequences}
    found["user"] = body.metadata.user_id if body.metadata else None
    found["thinking_token_budget"] = body.thinking.budget_tokens if body.thinking and _thinks(body) else None
    return found | {"reasoning_effort": body.output_config.effort if body.output_config else None}


def _response_format(body: CountTokensBody) -> JsonSchemaFormat | None:
    """The form of the answer. Raises `ApiError` 400 for two of them."""
    inside = body.output_config.format if body.output_config else None
    if inside and body.output_format:
        raise invalid("output_format", "output_format: output_config.format asks for a form already: give one of them")
    wanted = inside or body.output_format
    if wanted is None:
        return None
    named = NamedSchema.model_construct(name="answer", schema_=wanted.schema_)
    return JsonSchemaFormat.model_construct(type="json_schema", json_schema=named)


def _tools(body: CountTokensBody, names: FieldNames) -> dict[str, Any]:
    tools, choice = body.tools or [], body.tool_choice
    for index in range(len(tools)):
        place = f"tools[{index}]"
        names.add({f"{place}.function": place, f"{place}.function.parameters": f"{place}.input_schema"})
    found: dict[str, Any] = {"tools": [_tool(tool) for tool in tools] or None}
    if choice is None:
        return found
    if choice.type == "tool" and choice.name is None:
        raise invalid("tool_choice.name", "tool_choice.name: is required with the type 'tool'")
    named = NamedToolChoice.model_construct(type="function", function=NamedFunction.model_construct(name=choice.name))
    parallel = None if choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
    return found | {"tool_choice": TOOL_CHOICES.get(choice.type) or named, "parallel_tool_calls": parallel}


def _tool(tool: MessagesTool) -> ChatTool:
    function = FunctionObject.model_construct(
        name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
    )
    return ChatTool.model_construct(type="function", function=function)


def _conversation(body: CountTokensBody) -> Iterator[Placed]:
    """The messages of the chat in order. Raises `ApiError` 400."""
    if system := _system_text(body.system or ""):
        yield "system", _message("system", system)
    uses = OpenUses()
    for index, turn in enumerate(body.messages):
        place = f"messages.{index}"
        if isinstance(turn, SystemTurn):
            yield place, _message("system", _system_text(turn.content))
        elif isinstance(turn, UserTurn):
            uses.over = True
            yield from _of_user(turn, place, uses)
        else:
            message = _of_assistant(turn)
            uses = uses.followed_by(message, place)
            yield place, message
    if uses.over:  # else the answer would continue the calls, which is refused by itself
        uses.check()


@dataclass
class OpenUses:
    """The tool_use blocks of the assistant's newest turn, whose results must come in the next one."""

    ids: set[str] = field(default_factory=set)
    left: dict[str, str] = field(default_factory=dict)  # id of a block without result -> place of its message
    over: bool = False  # whether a turn of the user followed

    def followed_by(self, message: Message, place: str) -> OpenUses:
        """Those of the next message of the assistant. Raises `ApiError` 400 for blocks without a result."""
        found = OpenUses() if self.over else self  # neighbours are one turn
        if self.over:
            self.check()
        for call in message.tool_calls or ():
            found.ids.add(str(call.id))
            found.left[str(call.id)] = place
        return found

    def take(self, block: ToolResultBlock, place: str) -> None:
        """Add a result. Raises `ApiError` 400 if it has no call."""
        if block.tool_use_id not in self.ids:
            where = f"{place}.tool_use_id"
            raise invalid(where, f"{where}: the assistant's message before it has no tool_use block with this id")
        self.left.pop(block.tool_use_id, None)

    def check(self) -> None:
        """Raise `ApiError` 400 for blocks without a result."""
        if self.left:
            where, names = next(iter(self.left.values())), enumerated([*map(shown, self.left)])
            raise invalid(where, f"{where}: the next message has no tool_result block for the tool_use ids {names}")


def _system_text(content: str | list[TextBlock]) -> str:
    """The text of a system prompt, without Claude Code's billing header.

    The header is a block, or the first line of a string.
    """
    if isinstance(content, str):
        return content.partition("\n")[2] if content.startswith(BILLING) else content
    return _paragraphs(block for block in content if not block.text.startswith(BILLING))


def _of_user(turn: UserTurn, place: str, uses: OpenUses) -> Iterator[Placed]:
    """Texts as messages of the user, results as messages of tools."""
    if isinstance(turn.content, str):
        yield place, _message("user", turn.content)
        return
    if not turn.content:
        yield place, _message("user", "")
    for is_text, row in groupby(enumerate(turn.content), lambda one: isinstance(one[1], TextBlock)):
        blocks = list(row)
        if is_text:
            yield f"{place}.content.{blocks[0][0]}", _message("user", _paragraphs(block for _, block in blocks))
        for index, block in blocks:
            if isinstance(block, ToolResultBlock):
                where = f"{place}.content.{index}"
                uses.take(block, where)
                yield where, _message("tool", _result(block), tool_call_id=block.tool_use_id)


def _paragraphs(blocks: Iterable[Any]) -> str:
    """The texts of blocks as one."""
    return BETWEEN.join(block.text for block in blocks if block.text)


def _result(block: ToolResultBlock) -> str:
    """The text of a tool's result."""
    content = block.content or ""
    text = content if isinstance(content, str) else _paragraphs(content)
    return ERROR + text if block.is_error else text


def _of_assistant(turn: AssistantTurn) -> Message:
    if isinstance(turn.content, str):
        return _message("assistant", turn.content)
    text, reasoning, calls = "", "", list[AnyToolCall]()
    for block in turn.content:
        if isinstance(block, TextBlock):
            text += block.text
        elif isinstance(block, ThinkingBlock):
            reasoning += block.thinking
        elif isinstance(block, ToolUseBlock):
            function = FunctionCall.model_construct(name=block.name, arguments=block.input)
            calls.append(ToolCall.model_construct(id=block.id, type="function", function=function))
    return _message("assistant", text, tool_calls=calls or None, reasoning_content=reasoning or None)


def _message(role: str, content: str, **fields: Any) -> Message:
    return Message.model_construct(role=role, content=content, **fields)


def _merged(placed: Iterable[Placed]) -> list[Placed]:
    """Neighbours of one role as one message, as in Anthropic's API.

    Results of tools stay apart.
    """
    rows = groupby(placed, lambda one: (one[1].role, one[0] if one[1].role == "tool" else ""))
    return [_joined(list(row)) for _, row in rows]


def _joined(row: Sequence[Placed]) -> Placed:
    """Messages of one role as one, at the place of the first."""
    place, first = row[0]
    if len(row) == 1:
        return place, first
    messages = [message for _, message in row]
    content = BETWEEN.join(str(message.content) for message in messages if message.content)
    calls = [call for message in messages for call in message.tool_calls or ()]
    reasoning = "".join(message.reasoning_content or "" for message in messages)
    return place, _message(first.role, content, tool_calls=calls or None, reasoning_content=reasoning or None)
