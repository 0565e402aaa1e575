"""Request bodies: OpenAI's fields, and vLLM's where OpenAI has none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, StrictBool, StrictInt, StrictStr, Tag

from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.serve import field_rules as rules
from orcinus.serve.component_schema import spelled_schema
from orcinus.serve.conversation_schema import Messages, TemplateKwargs
from orcinus.serve.field_types import (
    ANSWERS,
    CONTEXT,
    LENGTH,
    MOST_ANSWERS,
    MOST_BIASES,
    MOST_LOAD,
    MOST_PROMPTS,
    MOST_STOPS,
    SEVERAL,
    SHORT,
    TOKEN_NAME,
    Number,
    OptionalCount,
    OptionalSwitch,
    Stop,
    TokenId,
    Word,
    at_most,
    not_zero,
    prompt_form,
    text_or_list,
)
from orcinus.serve.object_schema import Object
from orcinus.serve.slo_fields import SLOBody
from orcinus.serve.structured_output_schema import StructuredOutputFields
from orcinus.serve.tool_schema import ToolChoiceField, Tools
from orcinus.serve.unsupported import IN_CHAT, IN_COMPLETIONS, IN_DETOKENIZE, IN_TOKENIZE


class StreamOptions(Object):
    """Options of a stream."""

    include_usage: StrictBool | None = None
    continuous_usage_stats: StrictBool | None = None


class Sampler(Object):
    """The sampling fields, which all dialects share."""

    model: StrictStr | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[StrictInt, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    logit_bias: (
        Annotated[
            dict[Annotated[StrictStr, Field(pattern=r"^[0-9]{1,9}$")], Number],
            Field(max_length=MOST_BIASES, json_schema_extra={"propertyNames": TOKEN_NAME}),
            at_most(MOST_BIASES),
        ]
        | None
    ) = None
    stop: (
        Annotated[
            Annotated[Stop, Tag("a text")]
            | Annotated[list[Stop], Field(max_length=MOST_STOPS), at_most(MOST_STOPS), Tag("a list")],
            Discriminator(text_or_list),
        ]
        | None
    ) = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=SHORT), at_most(SHORT)] | None = None
    allowed_token_ids: Annotated[list[TokenId], Field(min_length=1, fail_fast=True)] | None = None
    bad_words: Annotated[list[Word], Field(max_length=SHORT), at_most(SHORT)] | None = None
    ignore_eos: StrictBool | None = None
    include_stop_str_in_output: StrictBool | None = None
    skip_special_tokens: StrictBool | None = None
    spaces_between_special_tokens: Annotated[StrictBool | None, Field(description="They never have any.")] = None
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | None = None
    priority: Annotated[StrictInt, Field(ge=-1_000_000, le=1_000_000)] | None = None
    user: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    prompt_cache_key: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    cache_salt: Annotated[StrictStr, Field(max_length=SHORT, pattern=r"^[\x20-\x7e]*$")] | None = None
    request_id: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    timeout: Annotated[Number, Field(gt=0, le=86_400)] | None = None
    slo: SLOBody | None = None


class Sampling(Sampler, StructuredOutputFields):
    """The common fields of chats and completions."""

    max_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31, json_schema_extra=LENGTH)] | None = None
    min_tokens: (
        Annotated[StrictInt, Field(ge=0, lt=2**31, json_schema_extra=LENGTH, description="At most max_tokens.")] | None
    ) = None
    n: Annotated[StrictInt, Field(ge=1, le=MOST_ANSWERS, json_schema_extra=ANSWERS)] | None = None
    best_of: Annotated[StrictInt, Field(ge=1, le=MOST_ANSWERS, description="The same as n.")] | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: StrictBool | None = None
    return_tokens_as_token_ids: StrictBool | None = None
    return_progress: StrictBool | None = None
    prompt_logprobs: OptionalCount = None
    add_special_tokens: StrictBool | None = None
    truncate_prompt_tokens: (
        Annotated[
            StrictInt, Field(ge=-1, lt=2**31, json_schema_extra=CONTEXT | {"not": {"const": 0}}), AfterValidator(not_zero)
        ]
        | None
    ) = None
    truncation_side: Literal["left", "right"] | None = None


class CompletionBody(Sampling):
    """`POST /v1/completions`."""

    model_config = ConfigDict(json_schema_extra=rules.OF_COMPLETIONS)
    unsupported = IN_COMPLETIONS

    prompt: Annotated[
        Annotated[StrictStr, Field(min_length=1), Tag("a text")]
        | Annotated[list[TokenId], Field(min_length=1, fail_fast=True), Tag("token ids")]
        | Annotated[list[Annotated[StrictStr, Field(min_length=1)]], SEVERAL, at_most(MOST_PROMPTS), Tag("several texts")]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]],
            SEVERAL,
            at_most(MOST_PROMPTS),
            Tag("several lists"),
        ],
        Discriminator(prompt_form),
    ]
    max_tokens: (
        Annotated[StrictInt, Field(ge=0, lt=2**31, json_schema_extra=LENGTH, description="0 only with echo.")] | None
    ) = None
    logprobs: OptionalCount = None
    echo: StrictBool | None = None


class ChatBody(Sampling):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(json_schema_extra=rules.OF_CHATS)
    unsupported = IN_CHAT

    messages: Messages
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31, json_schema_extra=LENGTH)] | None = None
    logprobs: OptionalSwitch = None
    top_logprobs: OptionalCount = None
    chat_template_kwargs: TemplateKwargs | None = None
    add_generation_prompt: StrictBool | None = None
    continue_final_message: StrictBool | None = None
    tools: Tools | None = None
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: StrictBool | None = None
    include_reasoning: StrictBool | None = None
    thinking_token_budget: Annotated[StrictInt, Field(ge=0, lt=2**31)] | None = None
    reasoning_effort: Annotated[StrictStr, Field(pattern="^[a-z]{1,16}$")] | None = None


class TokenizeBody(Object):
    """`POST /tokenize`: a text, or a conversation through the chat template."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [rules.ONLY_PROMPT, rules.ONLY_MESSAGES], "not": rules.ONE_ENDING})
    unsupported = IN_TOKENIZE
    model: StrictStr | None = None
    prompt: StrictStr | None = None
    messages: Messages | None = None
    add_special_tokens: StrictBool | None = None
    return_token_strs: StrictBool | None = None
    add_generation_prompt: StrictBool | None = None
    continue_final_message: StrictBool | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    tools: Tools | None = None


class DetokenizeBody(Object):
    """`POST /detokenize`."""

    unsupported = IN_DETOKENIZE
    model: StrictStr | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]
    skip_special_tokens: StrictBool | None = None


class SchedulerBody(Object):
    """`PUT /v1/scheduler`: the changes."""

    model_config = ConfigDict(extra="forbid")
    policy: Annotated[StrictStr, Field(max_length=SHORT, json_schema_extra=spelled_schema(POLICIES))] | None = None
    order: Annotated[StrictStr, Field(max_length=SHORT, json_schema_extra=spelled_schema(ORDERS))] | None = None
    max_batch_size: Annotated[StrictInt, Field(ge=1, lt=2**20)] | None = None
    max_batch_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None
    min_iteration_seconds: Annotated[Number, Field(ge=0, le=10)] | None = None


class StepBody(Object):
    """`POST /v1/scheduler/step`: how many iterations a paused engine runs."""

    model_config = ConfigDict(extra="forbid")
    iterations: Annotated[StrictInt, Field(ge=1, lt=2**20)] = 1


class LoadRequest(Object):
    """One request of a trial load."""

    model_config = ConfigDict(extra="forbid")
    at: Annotated[Number, Field(ge=0, le=3600, description="Seconds after the load's beginning.")] = 0.0
    prompt: Annotated[StrictStr, Field(min_length=1)]
    max_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31)]


class LoadBody(Object):
    """`POST /v1/scheduler/load`: requests that the server sends itself."""

    model_config = ConfigDict(extra="forbid")
    requests: Annotated[list[LoadRequest], Field(min_length=1, max_length=MOST_LOAD)]
    slo: Annotated[SLOBody | None, Field(description="Of each request.")] = None
    cache_salt: Annotated[StrictStr, Field(max_length=SHORT, pattern=r"^[\x20-\x7e]*$")] | None = None
