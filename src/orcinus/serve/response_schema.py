"""The responses of all routes, for the OpenAPI document.

Tests check real responses against these models.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Exact(BaseModel):
    """A response has these fields and no others."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ErrorFacts(Exact):
    """The message, type, field and code of an error."""

    message: str
    type: str
    param: str | None
    code: str | None
    retry_after_ms: int | None = Field(None, description="Of a refused SLO: when to come again.")
    predicted: dict[str, float] | None = Field(None, description="Of a refused SLO: predicted latencies in seconds.")


class Error(Exact):
    """Every error has this shape."""

    error: ErrorFacts


class CachedTokens(Exact):
    """Of the prompt tokens."""

    cached_tokens: int


class ReasoningTokens(Exact):
    """Of the completion tokens."""

    reasoning_tokens: int


class CompletionUsage(Exact):
    """Exact counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class PromiseFacts(Exact):
    """The SLO of a request, and what became of it; seconds by latency."""

    slo: dict[str, float]
    predicted: dict[str, float]
    measured: dict[str, float]
    kept: bool | None = Field(description="null while the request runs, or if its client cancelled it.")


class Timings(Exact):
    """Times of a request's stages.

    The four stages add up to `total_ms`.
    """

    queue_ms: float
    prefill_ms: float
    decode_ms: float
    preempted_ms: float
    total_ms: float
    prefill_iterations: int
    decode_iterations: int
    preemptions: int
    cached_tokens: int
    draft_tokens: int
    accepted_draft_tokens: int
    promise: PromiseFacts | None = Field(None, description="Of a request with an SLO.")


class TopLogprob(Exact):
    """A token and how likely it was."""

    token: str
    logprob: float | None
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """The chosen token, and likely ones in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Exact):
    """One entry for every generated token."""

    content: list[TokenLogprob] | None
    refusal: None


class CalledFunction(Exact):
    """A function and its arguments, as JSON text."""

    name: str
    arguments: str


class MessageToolCall(Exact):
    """A call that the client should make."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class CalledCustomTool(Exact):
    """A custom tool and its input."""

    name: str
    input: str


class MessageCustomCall(Exact):
    """A call of a custom tool that the client should make."""

    id: str
    type: Literal["custom"]
    custom: CalledCustomTool


class AssistantMessage(Exact):
    """The answer of a chat; null if it consists of calls."""

    role: str
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[MessageToolCall | MessageCustomCall] | None = None


class ChatChoice(Exact):
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str
    token_ids: list[int] | None = None


class Generated(Exact):
    """The common fields of chats and completions."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    usage: CompletionUsage
    timings: Timings | None


class PromptLogprob(Exact):
    """How likely one token was at its place in a prompt."""

    logprob: float | None
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]


class ChatCompletion(Generated):
    """The answers to a conversation."""

    choices: list[ChatChoice]
    warnings: list[str] | None = Field(None, description="What of the request is not enforced.")
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class TextLogprobs(Exact):
    """Lists with one entry for every token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None] | None]
    text_offset: list[int]


class TextChoice(Exact):
    """One answer."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: str
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class TextCompletion(Generated):
    """The answers to completion prompts."""

    choices: list[TextChoice]


class ModelCard(Exact):
    """The model that is served, or an adapter of it."""

    id: str
    object: str
    created: int
    owned_by: str
    parent: str | None = None  # the model of an adapter
    max_model_len: int
    revision: str | None = None  # the commit of a hub repository, if the model comes from one


class ModelList(Exact):
    """The model that is served, then its adapters."""

    object: str
    data: list[ModelCard]
    models: list[None] = Field(max_length=0, description="Codex's own list; empty, so that Codex keeps its own instructions.")


class Tokenized(Exact):
    """A text as tokens."""

    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | None


class Detokenized(Exact):
    """Tokens as text."""

    prompt: str


class TokenizerInfo(Exact):
    """The model's tokenizer, by the names of tokenizer_config.json."""

    tokenizer_class: str
    vocab_size: int
    model_max_length: int
    chat_template: str | None
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None


class Version(Exact):
    """Of Orcinus."""

    version: str


class StatusMessage(Exact):
    """The status of the server."""

    status: str


class Cancelled(Exact):
    """The number of cancelled answers."""

    id: str
    cancelled: int = Field(description="Answers that had not ended.")


class AnswerTimeline(Timings):
    """The stages of one answer, and its waits, in iterations."""

    index: int
    finish: str | None
    waits: dict[str, int]


class TimelineOfRequest(Exact):
    """The timeline of a request."""

    id: str
    answers: list[AnswerTimeline]


class SchedulerLimits(Exact):
    """Limits of one iteration."""

    max_batch_size: int
    max_batch_tokens: int


class QueueState(Exact):
    """Queue and memory of the server."""

    answers: int
    tokens: int


class RankState(Exact):
    """A rank of a model: its process and its layers.

    Layers are given by the first and the one after the last.
    """

    rank: int
    stage: int
    layers: tuple[int, int]
    process: int
    host: str


class ReplicaState(Exact):
    """How full one replica is, and where its ranks run."""

    replica: int
    running: int
    waiting: int
    free_blocks: int
    num_blocks: int
    ranks: list[RankState]


class PromiseCounts(Exact):
    """Answers with an SLO since the server began: accepted, ended within it or not, and refused."""

    made: int
    kept: int
    broken: int
    refused: int


class SchedulerState(Exact):
    """Policy, order, limits and load, over all replicas.

    Then each replica that lives.
    """

    policy: str
    order: str
    limits: SchedulerLimits
    paused: bool
    min_iteration_seconds: float
    draining: bool
    running: int
    waiting: int
    free_blocks: int
    num_blocks: int
    queue: QueueState
    promises: PromiseCounts
    replicas: list[ReplicaState]


class LiveRequest(Exact):
    """A request in the engine: sizes in tokens, and the K/V blocks that it holds."""

    id: str
    replica: int
    arrival: float  # on the clock of `LiveRequestList.now`
    prompt_tokens: int
    max_tokens: int | None
    output_tokens: int
    slo: dict[str, float] | None  # bounds in seconds
    computed_tokens: int
    blocks: list[int]
    filled_blocks: int  # the first ones; the others are reserved


class LiveRequestList(Exact):
    """All live requests, the oldest first, and the K/V memory of each replica."""

    now: float  # seconds on the server's monotonic clock
    block_size: list[int]
    num_blocks: list[int]
    requests: list[LiveRequest]


class LoadOutcome(Exact):
    """How a trial load ended."""

    requests: int
    refused: int  # because their SLO could not be kept
    failed: int
    error: str | None  # of the first that failed
    seconds: float
