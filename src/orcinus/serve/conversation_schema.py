"""Conversations in request bodies: messages, tools, variables of templates."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictStr, Tag

from orcinus.serve import field_rules as rules
from orcinus.serve.field_types import at_most, text_only, text_or_list
from orcinus.serve.object_schema import Object
from orcinus.serve.unsupported import IN_MESSAGE

FUNCTION_NAME = (
    "^[a-zA-Z0-9_.-]{1,128}$"  # OpenAI's, with dots, and as long as Anthropic's: clients join names of servers and tools
)


class TextPart(Object):
    """One part of a message's content."""

    type: Annotated[Literal["text"], text_only("text")]
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

    name: Annotated[StrictStr, Field(pattern=FUNCTION_NAME)]
    description: StrictStr | None = None
    parameters: dict[str, Any] | None = None
    strict: StrictBool | None = None


class ChatTool(Object):
    """A tool, as chat templates show it to the model."""

    type: Literal["function"]
    function: FunctionObject


class NamedFunction(Object):
    """The name of one of the tools."""

    name: StrictStr


class NamedToolChoice(Object):
    """The tool that the model must call."""

    type: Literal["function"]
    function: NamedFunction


class Message(Object):
    """A message of a conversation; only the assistant's may lack content."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [rules.HAS_CONTENT, rules.ASSISTANT]})
    unsupported = IN_MESSAGE
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: (
        Annotated[
            Annotated[StrictStr, Tag("a text")] | Annotated[list[TextPart], Field(fail_fast=True), Tag("a list")],
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


MOST_MESSAGES, MOST_TOOLS = 4096, 1024
Messages = Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES), at_most(MOST_MESSAGES)]
TemplateKwargs = Annotated[TemplateOptions, at_most(64)]
Tools = Annotated[list[ChatTool], Field(max_length=MOST_TOOLS), at_most(MOST_TOOLS)]
ToolChoiceField = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("a mode")] | Annotated[NamedToolChoice, Tag("a name")],
    Discriminator(lambda value: "a name" if isinstance(value, dict | NamedToolChoice) else "a mode"),
]
