"""Request bodies of Anthropic's Messages API."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, JsonValue, StrictBool, StrictInt, StrictStr, Tag
from pydantic_core import PydanticCustomError

from orcinus.errors import shown
from orcinus.serve.conversation_schema import MOST_MESSAGES
from orcinus.serve.field_types import MOST_STOPS, SHORT, Number, Stop, at_most, text_or_list
from orcinus.serve.object_schema import Object
from orcinus.serve.schema import ChatBody
from orcinus.serve.slo_fields import SLOBody
from orcinus.serve.unsupported import OFF, Unsupported, UnsupportedFields

MEDIA = ("image", "document", "audio", "video", "file", "container_upload")
ROLES = ("user", "assistant", "system")
ToolName = Annotated[StrictStr, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
CallId = Annotated[StrictStr, Field(min_length=1, max_length=SHORT)]
CacheControl = Annotated[dict[str, Any] | None, Field(description="Accepted: all prompts are cached.")]
# Of Anthropic's fields, those that change no answer: accepted, and named in a header.
IGNORED = (
    *("service_tier", "inference_geo", "speed", "context_management", "compaction", "diagnostics"),
    *("billing_policy", "fallbacks", "fallback_credit_token"),
)
IGNORED_INSIDE = (
    *("citations", "caller", "task_budget"),
    *("defer_loading", "allowed_callers", "input_examples", "eager_input_streaming"),
    *("id", "type", "model", "stop_reason", "stop_sequence", "stop_details", "usage"),  # of an answer that is sent back
)


class MessagesObject(Object):
    """An object of a request; paths of fields are written as `messages.2.content`."""

    index_form: ClassVar[str] = ".{}"
    ignored: ClassVar[tuple[str, ...]] = IGNORED_INSIDE


class TextBlock(MessagesObject):
    """Text of a message, a tool's result or the system prompt."""

    type: Literal["text"]
    text: StrictStr
    cache_control: CacheControl = None


class ThinkingBlock(MessagesObject):
    """Earlier reasoning of the assistant; the signature is not checked."""

    type: Literal["thinking"]
    thinking: StrictStr
    signature: StrictStr | None = None
    cache_control: CacheControl = None


class RedactedThinkingBlock(MessagesObject):
    """Reasoning that only Anthropic can read; the prompt lacks it."""

    type: Literal["redacted_thinking"]
    data: StrictStr
    cache_control: CacheControl = None


class ToolUseBlock(MessagesObject):
    """A tool call that the assistant made earlier."""

    type: Literal["tool_use"]
    id: CallId
    name: ToolName
    input: dict[str, Any]
    cache_control: CacheControl = None


def block_kind(*kinds: str) -> BeforeValidator:
    """A validator that refuses blocks of all other kinds."""
    known = " or ".join(map(repr, kinds))

    def check(value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind in kinds:
            return value
        if isinstance(kind, str) and kind in MEDIA:
            told = f"a block of type {kind!r} cannot be used: the model reads no images, sounds or files"
        elif isinstance(kind, str):
            told = f"the type of a block must be {known} here, not {shown(kind)}"
        else:
            told = f"must be a block with the type {known}"
        raise PydanticCustomError("block", "{told}", {"told": told})

    return BeforeValidator(check)


def _block_arm(block: Any) -> str:
    """The tag of a block in a union of blocks."""
    return f"{block['type']} block"


Text = Annotated[TextBlock, block_kind("text")]
Plain = Annotated[StrictStr, Tag("a text")]
TextOrBlocks = Annotated[Plain | Annotated[list[Text], Field(fail_fast=True), Tag("a list")], Discriminator(text_or_list)]


class ToolResultBlock(MessagesObject):
    """The result of a tool call, or its error."""

    type: Literal["tool_result"]
    tool_use_id: CallId
    content: TextOrBlocks | None = None
    is_error: StrictBool | None = None
    cache_control: CacheControl = None


UserBlock = Annotated[
    Annotated[TextBlock, Tag("text block")] | Annotated[ToolResultBlock, Tag("tool_result block")],
    Discriminator(_block_arm),
    block_kind("text", "tool_result"),
]
AssistantBlock = Annotated[
    Annotated[TextBlock, Tag("text block")]
    | Annotated[ThinkingBlock, Tag("thinking block")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking block")]
    | Annotated[ToolUseBlock, Tag("tool_use block")],
    Discriminator(_block_arm),
    block_kind("text", "thinking", "redacted_thinking", "tool_use"),
]


class UserTurn(MessagesObject):
    """A message of the user, with results of tools."""

    role: Literal["user"]
    content: Annotated[Plain | Annotated[list[UserBlock], Field(fail_fast=True), Tag("a list")], Discriminator(text_or_list)]


class AssistantTurn(MessagesObject):
    """A message of the assistant; the answer continues a last one."""

    role: Literal["assistant"]
    content: Annotated[
        Plain | Annotated[list[AssistantBlock], Field(fail_fast=True), Tag("a list")], Discriminator(text_or_list)
    ]


class SystemTurn(MessagesObject):
    """Instructions in the middle of a conversation; they stay in their place."""

    role: Literal["system"]
    content: TextOrBlocks


def _check_role(value: Any) -> Any:
    """A message, unless its role is unknown."""
    if not isinstance(value, dict):
        raise PydanticCustomError("turn", "must be an object")
    if value.get("role") not in ROLES:
        told = f"the role must be {' or '.join(map(repr, ROLES))}, not {shown(value.get('role'))}"
        raise PydanticCustomError("block", "{told}", {"told": told})
    return value


Turn = Annotated[
    Annotated[UserTurn, Tag("user turn")]
    | Annotated[AssistantTurn, Tag("assistant turn")]
    | Annotated[SystemTurn, Tag("system turn")],
    Discriminator(lambda turn: f"{turn['role']} turn"),
    BeforeValidator(_check_role),
]


def _custom_only(kind: Any) -> Any:
    """The type of a tool; Anthropic's own tools are refused."""
    if kind not in (None, "custom"):
        told = f"there is no tool of type {shown(kind)}: the server has none of its own; give custom tools with an input_schema"
        raise PydanticCustomError("block", "{told}", {"told": told})
    return kind


class MessagesTool(MessagesObject):
    """A tool that the model may call and the client runs."""

    type: Annotated[Literal["custom"] | None, BeforeValidator(_custom_only)] = None
    name: ToolName
    description: StrictStr | None = None
    input_schema: dict[str, Any]
    strict: StrictBool | None = None
    cache_control: CacheControl = None


def _needs(kind: str, field: str, value_type: str) -> JsonValue:
    """JSON Schema: objects of this kind have this field."""
    given: JsonValue = {"properties": {field: {"type": value_type}}, "required": [field]}
    return {"anyOf": [{"properties": {"type": {"not": {"const": kind}}}}, given]}


class MessagesToolChoice(MessagesObject):
    """Whether the model may call tools, must, or must call this one."""

    model_config = ConfigDict(json_schema_extra={"allOf": [_needs("tool", "name", "string")]})
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: StrictBool | None = None


class ThinkingConfig(MessagesObject):
    """Whether the model reasons before it answers, and in how many tokens.

    `between_tools` is Anthropic's word for reasoning turned off.
    """

    model_config = ConfigDict(json_schema_extra={"allOf": [_needs("enabled", "budget_tokens", "integer")]})
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class MessagesOutputFormat(MessagesObject):
    """The JSON Schema that an answer must fit."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class MessagesOutputConfig(MessagesObject):
    """Wishes about the answer."""

    effort: Annotated[StrictStr, Field(pattern="^[a-z]{1,16}$")] | None = None
    format: MessagesOutputFormat | None = None


class MessagesMetadata(MessagesObject):
    """Who asks."""

    user_id: Annotated[StrictStr, Field(max_length=SHORT, description="The fairness key.")] | None = None


class CountTokensBody(MessagesObject):
    """`POST /v1/messages/count_tokens`."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["output_format", "output_config"]}})
    ignored = IGNORED

    model: StrictStr | None = None
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MOST_MESSAGES), at_most(MOST_MESSAGES)]
    system: TextOrBlocks | None = None
    tools: Annotated[list[MessagesTool], Field(max_length=SHORT), at_most(SHORT)] | None = None
    tool_choice: MessagesToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: MessagesOutputConfig | None = None
    output_format: MessagesOutputFormat | None = None
    cache_control: CacheControl = None


class MessagesBody(CountTokensBody):
    """`POST /v1/messages`."""

    max_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31, description="Cut to what the context still holds.")]
    temperature: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[StrictInt, Field(ge=0, lt=2**31)] | None = None
    stop_sequences: Annotated[list[Stop], Field(max_length=MOST_STOPS), at_most(MOST_STOPS)] | None = None
    stream: StrictBool | None = None
    metadata: MessagesMetadata | None = None
    slo: SLOBody | None = None


NEUTRAL: dict[str, JsonValue] = {
    **dict.fromkeys(("n", "best_of", "repetition_penalty"), 1),
    **dict.fromkeys(
        ("presence_penalty", "frequency_penalty", "min_p", "min_tokens", "logprobs", "top_logprobs", "priority"), 0
    ),
}
INSTEAD = {
    "stop": "use stop_sequences",
    "user": "use metadata.user_id",
    "max_completion_tokens": "use max_tokens",
    "response_format": "use output_config.format",
    "chat_template_kwargs": "use thinking",
    "parallel_tool_calls": "use tool_choice.disable_parallel_tool_use",
    "thread": "the server keeps no conversations; send all messages",
    **dict.fromkeys(("container", "mcp_servers"), "this server runs no tools of its own; give tools with an input_schema"),
}


def _unsupported() -> UnsupportedFields:
    """The fields of chats, and of other engines, that messages lack."""
    own = MessagesBody.model_fields
    elsewhere = "it belongs to /v1/chat/completions"
    chats = {name: Unsupported(elsewhere, (*OFF, NEUTRAL.get(name))) for name in ChatBody.model_fields}
    hints = {name: Unsupported(hint, (*OFF, True) if name == "parallel_tool_calls" else OFF) for name, hint in INSTEAD.items()}
    named = dict(ChatBody.unsupported.by_name) | chats | hints
    return UnsupportedFields({name: one for name, one in named.items() if name not in own}, ChatBody.unsupported.by_prefix)


CountTokensBody.unsupported = _unsupported()
