"""Turns the conversation of a body into token ids, by the chat template."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from orcinus.serve.conversation_schema import AnyToolCall, CustomToolCall, Message, ToolCall
from orcinus.serve.errors import invalid
from orcinus.serve.object_schema import Object
from orcinus.serve.schema import ChatBody, TokenizeBody
from orcinus.serve.tool_fields import tools_of
from orcinus.serve.tool_schema import AnyTool, ChatTool
from orcinus.text.tokenizer import Tokenizer
from orcinus.text.tools.template_support import knows_tools, template_call, with_template_ids
from orcinus.text.tools.tool_prompt import without_template

# Gives token ids, or raises `RequestError`, or `TooManyTokens` far beyond the second argument.
ChatEncoder = Callable[[Tokenizer, int], tuple[int, ...]]


def chat_encoder(body: ChatBody | TokenizeBody) -> ChatEncoder:
    """A body's conversation, ready for tokenizing. Raises `ApiError`."""
    continues = bool(body.continue_final_message)
    if continues and body.add_generation_prompt:
        message = "continue_final_message: set add_generation_prompt to false, or leave it out; an answer has one beginning"
        raise invalid("continue_final_message", message)
    messages = template_messages(body.messages or [])
    hidden = isinstance(body, ChatBody) and body.tool_choice == "none"
    tools = [] if hidden else body.tools or []

    def encode(tokenizer: Tokenizer, most: int) -> tuple[int, ...]:
        known = knows_tools(tokenizer.chat_template)
        return tokenizer.encode_chat(
            with_template_ids(tokenizer.chat_template, messages) if known else without_template(messages, tools_of(tools)),
            _template_options(body, tokenizer),
            tools=([_function(tool) for tool in tools] or None) if known else None,
            add_generation_prompt=body.add_generation_prompt is not False and not continues,
            continue_final_message=continues,
            special=bool(body.add_special_tokens),
            most=most,
        )

    return encode


def _template_options(body: ChatBody | TokenizeBody, tokenizer: Tokenizer) -> dict[str, Any]:
    """The variables of the template that the request sets.

    Without effort there is no thinking, where the template has a switch for it.
    """
    found = body.chat_template_kwargs.model_dump(exclude_none=True) if body.chat_template_kwargs else {}
    effort = body.reasoning_effort if isinstance(body, ChatBody) else None
    if effort is not None and reads(tokenizer.chat_template, "reasoning_effort"):
        found["reasoning_effort"] = effort
    without = effort == "none" and reads(tokenizer.chat_template, "enable_thinking")
    return {"enable_thinking": False, **found} if without else found


def reads(template: str | None, variable: str) -> bool:
    """Whether a chat template knows a variable."""
    return re.search(rf"\b{re.escape(variable)}\b", template or "") is not None


def unused_fields(body: ChatBody, template: str | None) -> list[str]:
    """Fields of a conversation that the chat template does not read."""
    effort, switch = "reasoning_effort", "enable_thinking"
    used = reads(template, effort) or (body.reasoning_effort == "none" and reads(template, switch))
    return [] if body.reasoning_effort is None or used else [effort]


def _known(part: Object) -> dict[str, Any]:
    """A request's object without unknown fields, for a template."""
    return {
        name: _known(value) if isinstance(value, Object) else value
        for name in type(part).model_fields
        if (value := getattr(part, name)) is not None
    }


def _function(part: AnyTool | AnyToolCall) -> dict[str, Any]:
    """A tool or a call, for a template: that of a function."""
    if isinstance(part, ChatTool | ToolCall):
        return _known(part)
    found = {"type": "function", "function": _known(part.function)}
    return {"id": part.id, **found} if isinstance(part, CustomToolCall) and part.id is not None else found


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates know them. Raises `ApiError`."""
    found = []
    for index, message in enumerate(messages):
        if message.content is None and message.role != "assistant":
            where = f"messages[{index}].content"
            raise invalid(where, f"{where}: is required")
        one: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
        one["content"] = "".join(texts(message))
        if message.tool_calls:
            one["tool_calls"] = [template_call(_function(call)) for call in message.tool_calls]
        if reasoning := message.reasoning_content or message.reasoning:
            one["reasoning_content"] = reasoning
        one |= {name: value for name in ("name", "tool_call_id") if (value := getattr(message, name)) is not None}
        found.append(one)
    return found


def texts(message: Message) -> list[str]:
    """The texts of a message's content."""
    return [message.content] if isinstance(message.content, str) else [part.text for part in message.content or ()]
