"""Responses of Anthropic's Messages API, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from orcinus.serve.response_schema import Exact

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class MessagesErrorFacts(Exact):
    """The type of an error, and a message that names the field."""

    type: str
    message: str
    retry_after_ms: int | None = None  # of a refused SLO
    predicted: dict[str, float] | None = None  # seconds by latency


class MessagesError(Exact):
    """Every error of this API has this shape."""

    type: Literal["error"]
    error: MessagesErrorFacts
    request_id: str


class TextContent(Exact):
    """Text of the answer."""

    type: Literal["text"]
    text: str


class ThinkingContent(Exact):
    """The model's reasoning."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class ToolUseContent(Exact):
    """A call of a tool, which the client runs."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingTokens(Exact):
    """Of the output."""

    thinking_tokens: int


class MessagesUsage(Exact):
    """Exact counts of tokens."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens


class MessagesResponse(Exact):
    """The assistant's message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextContent | ThinkingContent | ToolUseContent]
    stop_reason: StopReason
    stop_sequence: str | None
    usage: MessagesUsage


class TokenCount(Exact):
    """The tokens of a conversation."""

    input_tokens: int
