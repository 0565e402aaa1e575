"""Conversations in request bodies: messages, and variables of templates."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictStr, Tag

from orcinus.serve import field_rules as rules
from orcinus.serve.custom_tools import custom_arguments
from orcinus.serve.field_types import at_most, text_only, text_or_list
from orcinus.serve.object_schema import Object
from orcinus.serve.tool_schema import tool_kind
from orcinus.serve.unsupported import IN_MESSAGE

MOST_MESSAGES = 4096


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


class CustomCall(Object):
    """The custom tool of an earlier call, and its input."""

    name: StrictStr
    input: StrictStr


class CustomToolCall(Object):
    """A call of a custom tool that the assistant made earlier."""

    id: StrictStr | None = None
    type: Literal["custom"]
    custom: CustomCall

    @property
    def function(self) -> FunctionCall:
        """The call of the function that stands for the tool."""
        return FunctionCall.model_construct(name=self.custom.name, arguments=custom_arguments(self.custom.input))


AnyToolCall = Annotated[
    Annotated[ToolCall, Tag("a function")] | Annotated[CustomToolCall, Tag("a custom")], Discriminator(tool_kind)
]


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
    tool_calls: Annotated[list[AnyToolCall], Field(fail_fast=True)] | None = None
    tool_call_id: StrictStr | None = None
    reasoning_content: StrictStr | None = None
    reasoning: StrictStr | None = None


class TemplateOptions(BaseModel):
    """Variables of the model's chat template that a request sets."""

    model_config = ConfigDict(extra="forbid")
    enable_thinking: StrictBool | None = None
    thinking: StrictBool | None = None


Messages = Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES), at_most(MOST_MESSAGES)]
TemplateKwargs = Annotated[TemplateOptions, at_most(64)]
