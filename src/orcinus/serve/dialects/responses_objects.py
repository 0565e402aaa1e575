"""Responses of `/v1/responses`, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orcinus.serve.response_schema import Exact, Timings, TokenLogprob


class OutputText(Exact):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprob]


class OutputMessage(Exact):
    """What the model says."""

    id: str
    type: Literal["message"]
    status: str
    role: Literal["assistant"]
    content: list[OutputText]


class ReasoningText(Exact):
    """What the model thinks."""

    type: Literal["reasoning_text"]
    text: str


class OutputReasoning(Exact):
    """The reasoning before a message or a call; `summary` stays empty."""

    id: str
    type: Literal["reasoning"]
    status: str
    summary: list[Any]
    content: list[ReasoningText]
    encrypted_content: str | None = None


class OutputFunctionCall(Exact):
    """A call of a function; `arguments` are JSON."""

    id: str
    type: Literal["function_call"]
    status: str
    call_id: str
    name: str
    namespace: str | None = None
    arguments: str


class OutputCustomCall(Exact):
    """A call of a custom tool."""

    id: str
    type: Literal["custom_tool_call"]
    status: str
    call_id: str
    name: str
    namespace: str | None = None
    input: str


class InputTokensDetails(Exact):
    """Of the input tokens."""

    cached_tokens: int


class OutputTokensDetails(Exact):
    """Of the output tokens."""

    reasoning_tokens: int


class ResponseUsage(Exact):
    """Exact counts of tokens."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(Exact):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class ResponseError(Exact):
    """Why a response failed."""

    code: str
    message: str


class ResponseObject(Exact):
    """A response: its request's options, and the output as items."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    completed_at: int | None
    background: Literal[False]
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    model: str
    output: list[OutputMessage | OutputReasoning | OutputFunctionCall | OutputCustomCall]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str
    store: bool = Field(description="Whether the response can be fetched, or named as previous_response_id.")
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]] = Field(description="Those that the model was told of.")
    top_logprobs: int
    top_p: float | None
    truncation: str
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]
    warnings: list[str] = Field(description="What of the request was left out.")
    timings: Timings | None = None


class DeletedResponse(Exact):
    """The id of a response that is not stored any more."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]
