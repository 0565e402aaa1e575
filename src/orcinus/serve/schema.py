"""Request bodies: OpenAI's fields, and vLLM's where OpenAI has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
)
from pydantic_core import CoreSchema

from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.serve import field_rules as rules
from orcinus.serve.component_schema import spelled_schema
from orcinus.serve.field_types import (
    ANSWERS,
    LENGTH,
    MOST_ANSWERS,
    MOST_BIASES,
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
    text_only,
    text_or_list,
)
from orcinus.serve.unsupported import (
    IN_CHAT,
    IN_COMPLETIONS,
    IN_DETOKENIZE,
    IN_MESSAGE,
    IN_TOKENIZE,
    NO_FIELDS,
    UnsupportedFields,
)

# Fields of OpenAI's API that change no answer: accepted, and named in a header.
IGNORED = (
    *("metadata", "store", "service_tier", "safety_identifier", "reasoning_effort", "verbosity"),
    *("prediction", "prompt_cache_retention"),
)
IGNORED_INSIDE = ("annotations",)  # fields of messages that the openai package repeats


class Object(BaseModel):
    """An object of a request.

    Unknown fields are kept: those in `unsupported` are refused, others named.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    unsupported: ClassVar[UnsupportedFields] = NO_FIELDS

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        if patterns := cls.unsupported.pattern_properties():
            schema["patternProperties"] = patterns
        return schema

    def objects(self, path: str = "") -> Iterator[tuple[str, Object]]:
        """This object and its inner ones, each with its path prefix.

        A prefix is "" or "messages[2].", for example.
        """
        yield path, self
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Object):
                yield from value.objects(f"{path}{name}.")
            elif isinstance(value, list):
                for index, one in enumerate(value):
                    if isinstance(one, Object):
                        yield from one.objects(f"{path}{name}[{index}].")


class StreamOptions(Object):
    """Options of a stream."""

    include_usage: StrictBool | None = None
    continuous_usage_stats: StrictBool | None = None


class Sampling(Object):
    """The common fields of chats and completions."""

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
            Annotated[Stop, Tag("text")]
            | Annotated[list[Stop], Field(max_length=MOST_STOPS), at_most(MOST_STOPS), Tag("texts")],
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
    n: Annotated[StrictInt, Field(ge=1, le=MOST_ANSWERS, json_schema_extra=ANSWERS)] | None = None
    best_of: Annotated[StrictInt, Field(ge=1, le=MOST_ANSWERS, description="The same as n.")] | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    priority: Annotated[StrictInt, Field(ge=-1_000_000, le=1_000_000)] | None = None
    user: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    prompt_cache_key: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    cache_salt: Annotated[StrictStr, Field(max_length=SHORT, pattern=r"^[\x20-\x7e]*$")] | None = None
    request_id: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    timeout: Annotated[Number, Field(gt=0, le=86_400)] | None = None
    return_token_ids: StrictBool | None = None
    return_tokens_as_token_ids: StrictBool | None = None
    return_progress: StrictBool | None = None
    prompt_logprobs: OptionalCount = None
    add_special_tokens: StrictBool | None = None
    truncate_prompt_tokens: (
        Annotated[StrictInt, Field(ge=-1, lt=2**31, json_schema_extra=LENGTH | {"not": {"const": 0}}), AfterValidator(not_zero)]
        | None
    ) = None
    truncation_side: Literal["left", "right"] | None = None


class CompletionBody(Sampling):
    """`POST /v1/completions`."""

    model_config = ConfigDict(json_schema_extra={"allOf": rules.OF_COMPLETIONS})
    unsupported = IN_COMPLETIONS

    prompt: Annotated[
        Annotated[StrictStr, Field(min_length=1), Tag("text")]
        | Annotated[list[TokenId], Field(min_length=1, fail_fast=True), Tag("ids")]
        | Annotated[list[Annotated[StrictStr, Field(min_length=1)]], SEVERAL, at_most(MOST_PROMPTS), Tag("texts")]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]], SEVERAL, at_most(MOST_PROMPTS), Tag("lists")
        ],
        Discriminator(prompt_form),
    ]
    max_tokens: (
        Annotated[StrictInt, Field(ge=0, lt=2**31, json_schema_extra=LENGTH, description="0 only with echo.")] | None
    ) = None
    logprobs: OptionalCount = None
    echo: StrictBool | None = None


class TextPart(Object):
    """One part of a message's content."""

    type: Annotated[Literal["text"], BeforeValidator(text_only)]
    text: StrictStr


class FunctionCall(Object):
    """The function of an earlier tool call."""

    name: StrictStr
    arguments: StrictStr | dict[str, Any] = ""


class ToolCall(Object):
    """A tool call that the assistant made earlier."""

    id: StrictStr | None = None
    type: Literal["function"] | None = None
    function: FunctionCall


class FunctionObject(Object):
    """A function that the model may call."""

    name: StrictStr
    description: StrictStr | None = None
    parameters: dict[str, Any] | None = None
    strict: StrictBool | None = None


class ChatTool(Object):
    """A tool, as chat templates show it to the model."""

    type: Literal["function"]
    function: FunctionObject


class Message(Object):
    """A message of a conversation; only the assistant's may lack content."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [rules.HAS_CONTENT, rules.ASSISTANT]})
    unsupported = IN_MESSAGE
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: (
        Annotated[
            Annotated[StrictStr, Tag("text")] | Annotated[list[TextPart], Field(fail_fast=True), Tag("texts")],
            Discriminator(text_or_list),
        ]
        | None
    ) = None
    name: StrictStr | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True)] | None = None
    tool_call_id: StrictStr | None = None
    reasoning_content: StrictStr | None = None
    reasoning: StrictStr | None = None


class TemplateOptions(BaseModel):
    """Variables of the model's chat template that a request sets."""

    model_config = ConfigDict(extra="forbid")
    enable_thinking: StrictBool | None = None
    thinking: StrictBool | None = None


MOST_MESSAGES = 4096
Messages = Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES), at_most(MOST_MESSAGES)]
TemplateKwargs = Annotated[TemplateOptions, at_most(64)]


class ChatBody(Sampling):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": rules.OF_CHATS,
            "not": rules.ONE_ENDING,
        }
    )
    unsupported = IN_CHAT

    messages: Messages
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31, json_schema_extra=LENGTH)] | None = None
    logprobs: OptionalSwitch = None
    top_logprobs: OptionalCount = None
    chat_template_kwargs: TemplateKwargs | None = None
    add_generation_prompt: StrictBool | None = None
    continue_final_message: StrictBool | None = None


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
    tools: Annotated[list[ChatTool], Field(max_length=SHORT), at_most(SHORT)] | None = None


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
