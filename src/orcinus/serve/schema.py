"""The bodies of requests, field by field: names of OpenAI's API, and vLLM's where OpenAI has none."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, StrictBool, StrictInt, StrictStr, Tag

Number = Annotated[float, Field(strict=True)]  # a whole one will do, True will not
MOST_ANSWERS, MOST_PROMPTS, MOST_STOPS, MOST_LOGPROBS = 8, 64, 16, 20
LONGEST_STOP = 256
SHORT = 1024
NOT_YET = ("response_format", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
NEVER = {
    "suffix": "the model cannot fill in the middle",
    "chat_template": "a template from a request is not run",
    "best_of": "ask for n answers and choose among them",
    "allowed_token_ids": "use logit_bias",
    "bad_words": "use logit_bias",
    "prompt_logprobs": "use echo with logprobs",
    "use_beam_search": "there is no beam search",
}
HARMLESS = {"response_format": ({"type": "text"},), "tool_choice": ("none",), "parallel_tool_calls": (True, False)}
IGNORED = ("metadata", "store", "service_tier", "safety_identifier", "reasoning_effort", "verbosity")
Stop = Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_STOP)]
# Marked, because their true limits are the model's: the OpenAPI document shows those.
TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31, json_schema_extra={"x-limit": "vocab_size"})]
LENGTH: dict[str, JsonValue] = {"x-limit": "max_model_len"}


def _needs(field: str, other: str) -> dict[str, JsonValue]:
    """For the OpenAPI document: a field that means nothing unless another one is true."""
    absent: JsonValue = {"properties": {field: {"type": "null"}}}
    return {"anyOf": [absent, {"properties": {other: {"const": True}}, "required": [other]}]}


def _text_or_list(value: Any) -> str:
    """Which form a field has that may be a text or a list, so that an error speaks of the form that was meant."""
    return "texts" if isinstance(value, list) else "text"


def _form(value: Any) -> str:
    """Which of the four forms a prompt has."""
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else 0
    return "texts" if isinstance(first, str) else "lists" if isinstance(first, list) else "ids"


class StreamOptions(BaseModel):
    """What a stream carries besides text."""

    model_config = ConfigDict(extra="ignore")
    include_usage: StrictBool | None = None
    continuous_usage_stats: StrictBool | None = None


class Sampling(BaseModel):
    """What chats and completions have in common."""

    model_config = ConfigDict(
        extra="allow", protected_namespaces=(), json_schema_extra={"allOf": [_needs("stream_options", "stream")]}
    )

    model: StrictStr | None = None
    max_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31, json_schema_extra=LENGTH)] | None = None
    min_tokens: (
        Annotated[StrictInt, Field(ge=0, lt=2**31, json_schema_extra=LENGTH, description="At most max_tokens.")] | None
    ) = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[StrictInt, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[Annotated[StrictStr, Field(pattern=r"^[0-9]{1,9}$")], Number] | None = None
    stop: (
        Annotated[
            Annotated[Stop, Tag("text")] | Annotated[list[Stop], Field(max_length=MOST_STOPS), Tag("texts")],
            Discriminator(_text_or_list),
        ]
        | None
    ) = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=SHORT)] | None = None
    ignore_eos: StrictBool | None = None
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[StrictInt, Field(ge=1, le=MOST_ANSWERS)] | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    priority: Annotated[StrictInt, Field(ge=-1_000_000, le=1_000_000)] | None = None
    user: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    prompt_cache_key: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    cache_salt: Annotated[StrictStr, Field(max_length=SHORT, pattern=r"^[\x20-\x7e]*$")] | None = None
    request_id: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    timeout: Annotated[Number, Field(gt=0, le=86_400)] | None = None
    return_token_ids: StrictBool | None = None
    return_progress: StrictBool | None = None


class CompletionBody(Sampling):
    """`POST /v1/completions`."""

    prompt: Annotated[
        Annotated[StrictStr, Field(min_length=1), Tag("text")]
        | Annotated[list[TokenId], Field(min_length=1), Tag("ids")]
        | Annotated[list[Annotated[StrictStr, Field(min_length=1)]], Field(min_length=1, max_length=MOST_PROMPTS), Tag("texts")]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=MOST_PROMPTS), Tag("lists")
        ],
        Discriminator(_form),
    ]
    max_tokens: (
        Annotated[StrictInt, Field(ge=0, lt=2**31, json_schema_extra=LENGTH, description="0 only with echo.")] | None
    ) = None
    logprobs: Annotated[StrictInt, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: StrictBool | None = None


class TextPart(BaseModel):
    """One part of a message's content."""

    type: Literal["text"]
    text: StrictStr


class Function(BaseModel):
    """What an earlier tool call called."""

    model_config = ConfigDict(extra="allow")
    name: StrictStr
    arguments: StrictStr | dict[str, Any] = ""


class ToolCall(BaseModel):
    """A tool call that the assistant made earlier in the conversation."""

    model_config = ConfigDict(extra="allow")
    function: Function


HAS_CONTENT: JsonValue = {"properties": {"content": {"not": {"type": "null"}}}, "required": ["content"]}
CALLS_TOOLS: JsonValue = {
    "properties": {"role": {"const": "assistant"}, "tool_calls": {"type": "array", "minItems": 1}},
    "required": ["tool_calls"],
}


class Message(BaseModel):
    """One message of a conversation. Only an assistant's with tool calls may do without content."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"anyOf": [HAS_CONTENT, CALLS_TOOLS]})
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: (
        Annotated[
            Annotated[StrictStr, Tag("text")] | Annotated[list[TextPart], Tag("texts")],
            Discriminator(_text_or_list),
        ]
        | None
    ) = None
    name: StrictStr | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: StrictStr | None = None


class TemplateOptions(BaseModel):
    """The variables of a model's chat template that a request may set."""

    model_config = ConfigDict(extra="forbid")
    enable_thinking: StrictBool | None = None
    thinking: StrictBool | None = None


class ChatBody(Sampling):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(
        json_schema_extra={"allOf": [_needs("stream_options", "stream"), _needs("top_logprobs", "logprobs")]}
    )

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31, json_schema_extra=LENGTH)] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    chat_template_kwargs: TemplateOptions | None = None


ONLY_PROMPT: JsonValue = {
    "properties": {"prompt": {"type": "string"}, "messages": {"type": "null"}},
    "required": ["prompt"],
}
ONLY_MESSAGES: JsonValue = {
    "properties": {"messages": {"type": "array"}, "prompt": {"type": "null"}},
    "required": ["messages"],
}


class TokenizeBody(BaseModel):
    """`POST /tokenize`: a text as it stands, or a conversation through the model's chat template."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"oneOf": [ONLY_PROMPT, ONLY_MESSAGES]})
    model: StrictStr | None = None
    prompt: StrictStr | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)] | None = None
    add_special_tokens: StrictBool | None = None
    return_token_strs: StrictBool | None = None


class DetokenizeBody(BaseModel):
    """`POST /detokenize`."""

    model_config = ConfigDict(extra="allow")
    model: StrictStr | None = None
    tokens: list[TokenId]


class SchedulerBody(BaseModel):
    """`PUT /v1/scheduler`: what to change."""

    model_config = ConfigDict(extra="forbid")
    policy: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    order: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    max_batch_size: Annotated[StrictInt, Field(ge=1, lt=2**20)] | None = None
    max_batch_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None
