"""The bodies of requests, field by field: names of OpenAI's API, and vLLM's where OpenAI has none."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

Number = StrictFloat | StrictInt
MOST_ANSWERS, MOST_PROMPTS, MOST_STOPS, MOST_LOGPROBS = 8, 64, 16, 20
SHORT = 1024
NOT_YET = ("response_format", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
NEVER = {
    "suffix": "the model cannot fill in the middle",
    "chat_template": "a template from a request is not run",
    "best_of": "ask for n answers and choose among them",
}
IGNORED = ("metadata", "store", "service_tier", "safety_identifier", "reasoning_effort", "verbosity")


class StreamOptions(BaseModel):
    """What a stream carries besides text."""

    model_config = ConfigDict(extra="ignore")
    include_usage: StrictBool | None = None
    continuous_usage_stats: StrictBool | None = None


class Sampling(BaseModel):
    """What chats and completions have in common."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: StrictStr | None = None
    max_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None
    min_tokens: Annotated[StrictInt, Field(ge=0, lt=2**31)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[StrictInt, Field(ge=-1)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[StrictStr, Number] | None = None
    stop: StrictStr | list[StrictStr] | None = None
    stop_token_ids: list[StrictInt] | None = None
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

    prompt: StrictStr | list[StrictInt] | list[StrictStr] | list[list[StrictInt]]
    logprobs: Annotated[StrictInt, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: StrictBool | None = None


class TextPart(BaseModel):
    """One part of a message's content."""

    type: Literal["text"]
    text: StrictStr


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: StrictStr | list[TextPart] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatBody(Sampling):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=MOST_LOGPROBS)] | None = None


class SchedulerBody(BaseModel):
    """`PUT /v1/scheduler`: what to change."""

    model_config = ConfigDict(extra="forbid")
    policy: StrictStr | None = None
    order: StrictStr | None = None
    max_batch_size: Annotated[StrictInt, Field(ge=1, lt=2**20)] | None = None
    max_batch_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None
