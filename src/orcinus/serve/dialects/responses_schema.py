"""The body of `POST /v1/responses`: tools, options and items."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, StrictBool, StrictInt, StrictStr, Tag

from orcinus.serve import field_rules as rules
from orcinus.serve.conversation_schema import TemplateKwargs
from orcinus.serve.dialects.responses_items import Items, Name
from orcinus.serve.field_types import LENGTH, SHORT, OptionalCount, at_most, text_or_list
from orcinus.serve.object_schema import Object, type_of
from orcinus.serve.schema import ChatBody, Sampler
from orcinus.serve.tool_schema import FUNCTION_NAME, PlainFormat, format_kind
from orcinus.serve.unsupported import FAMILIES, GENERATION, Unsupported, UnsupportedFields

CALLABLE = ("function", "custom", "namespace")
SpecName = Annotated[StrictStr, Field(pattern=FUNCTION_NAME)]


class FunctionSpec(Object):
    """A function that the model may call."""

    type: Literal["function"]
    name: SpecName
    description: StrictStr | None = None
    parameters: dict[str, Any] | None = None
    strict: StrictBool | None = None


class GrammarFormat(Object):
    """A grammar of a custom tool's input, which the prompt contains; a regex is enforced."""

    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: Annotated[StrictStr, Field(min_length=1)]


CustomFormat = Annotated[
    Annotated[PlainFormat, Tag("format text")] | Annotated[GrammarFormat, Tag("format grammar")], Discriminator(format_kind)
]


class CustomSpec(Object):
    """A tool whose input is one text."""

    type: Literal["custom"]
    name: SpecName
    description: StrictStr | None = None
    format: CustomFormat | None = None


def _tool_kind(value: Any) -> str:
    kind = type_of(value)
    return f"tool {kind}" if kind in CALLABLE else "tool hosted" if kind is not None else "tool function"


CallableSpec = Annotated[
    Annotated[FunctionSpec, Tag("tool function")] | Annotated[CustomSpec, Tag("tool custom")],
    Discriminator(lambda value: "tool custom" if _tool_kind(value) == "tool custom" else "tool function"),
]


class NamespaceSpec(Object):
    """Tools of one source, such as an MCP server."""

    type: Literal["namespace"]
    name: SpecName
    description: StrictStr | None = None
    tools: Annotated[list[CallableSpec], Field(max_length=SHORT, fail_fast=True), at_most(SHORT)]


class HostedSpec(Object):
    """A tool that OpenAI runs, such as `web_search`.

    It is left out with all its options, with a warning.
    """

    model_config = ConfigDict(extra="ignore")
    type: Annotated[Name, Field(json_schema_extra={"not": {"enum": list(CALLABLE)}})]


ToolSpec = Annotated[
    Annotated[FunctionSpec, Tag("tool function")]
    | Annotated[CustomSpec, Tag("tool custom")]
    | Annotated[NamespaceSpec, Tag("tool namespace")]
    | Annotated[HostedSpec, Tag("tool hosted")],
    Discriminator(_tool_kind),
]


class ToolName(Object):
    """A tool by its name."""

    type: Literal["function", "custom"]
    name: Name
    namespace: Name | None = None


class AllowedTools(Object):
    """Some of the tools, and whether one of them must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[ToolName], Field(min_length=1, max_length=SHORT), at_most(SHORT)]


def _choice_kind(value: Any) -> str:
    if not isinstance(value, dict):
        return "a mode"
    return "an allowed" if value.get("type") == "allowed_tools" else "a name"


Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("a mode")]
    | Annotated[ToolName, Tag("a name")]
    | Annotated[AllowedTools, Tag("an allowed")],
    Discriminator(_choice_kind),
]


class OutputFormat(Object):
    """The form of the answer's text."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [rules.NO_SCHEMA, rules.WITH_SCHEMA]})
    type: Literal["text", "json_object", "json_schema"]
    name: StrictStr | None = None
    description: StrictStr | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: StrictBool | None = None


class TextOptions(Object):
    """Options of the answer's text; `verbosity` is ignored."""

    format: OutputFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(Object):
    """How much the model reasons.

    There are no summaries: the reasoning is given whole.
    """

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class EventOptions(Object):
    """Options of the events; none of them is ever obfuscated."""

    include_obfuscation: StrictBool | None = None
    include_usage: StrictBool | None = None


INCLUDABLE = (
    *("reasoning.encrypted_content", "message.output_text.logprobs", "file_search_call.results", "web_search_call.results"),
    *("web_search_call.action.sources", "message.input_image.image_url", "computer_call_output.output.image_url"),
    "code_interpreter_call.outputs",
)


class ResponsesBody(Sampler):
    """`POST /v1/responses`."""

    model_config = ConfigDict(json_schema_extra=rules.none_of(rules.STREAM_OPTIONS))
    unsupported: ClassVar[UnsupportedFields]

    input: (
        Annotated[Annotated[StrictStr, Tag("a text")] | Annotated[Items, Tag("a list")], Discriminator(text_or_list)] | None
    ) = None
    instructions: StrictStr | None = None
    previous_response_id: Name | None = None
    tools: Annotated[list[ToolSpec], Field(max_length=SHORT), at_most(SHORT)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: StrictBool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    max_output_tokens: Annotated[StrictInt, Field(ge=1, lt=2**31, json_schema_extra=LENGTH)] | None = None
    top_logprobs: OptionalCount = None
    include: Annotated[list[Literal[INCLUDABLE]], at_most(SHORT)] | None = None  # type: ignore[valid-type]
    metadata: Annotated[dict[str, Annotated[StrictStr, Field(max_length=SHORT)]], Field(max_length=16), at_most(16)] | None = (
        None
    )
    store: StrictBool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    safety_identifier: Annotated[StrictStr, Field(max_length=SHORT)] | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    thinking_token_budget: Annotated[StrictInt, Field(ge=0, lt=2**31)] | None = None
    stream: StrictBool | None = None
    stream_options: EventOptions | None = None


STATELESS = "the server runs every response at once; use stream"
_OWN: dict[str, Unsupported] = {
    "conversation": Unsupported("use previous_response_id, or send the whole history as input"),
    "background": Unsupported(STATELESS),
    "background_options": Unsupported(STATELESS),
    "prompt": Unsupported("the server keeps no prompts; send its text as instructions and input"),
    "context_management": Unsupported('the server compacts no conversation; use truncation: "auto"'),
    "messages": Unsupported("use input"),
    "response_format": Unsupported("use text: {format}"),
    "max_tokens": Unsupported("use max_output_tokens"),
    "max_completion_tokens": Unsupported("use max_output_tokens"),
    "reasoning_effort": Unsupported("use reasoning: {effort}"),
}
_OF_CHATS = Unsupported("it belongs to /v1/chat/completions", (None, False, 0, 1, "", "auto", [], {}))
_OTHERS: dict[str, Unsupported] = GENERATION | dict.fromkeys(ChatBody.model_fields, _OF_CHATS) | _OWN
ResponsesBody.unsupported = UnsupportedFields(
    {name: rule for name, rule in _OTHERS.items() if name not in ResponsesBody.model_fields}, FAMILIES
)
