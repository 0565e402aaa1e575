"""Input items of `POST /v1/responses`: messages, tool calls, their outputs, reasoning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictStr, Tag
from pydantic.json_schema import SkipJsonSchema

from orcinus.serve.field_types import SHORT, at_most, text_only, text_or_list
from orcinus.serve.object_schema import Object, type_of

MOST_ITEMS = 4096
Status = Literal["in_progress", "completed", "incomplete"] | None
Name = Annotated[StrictStr, Field(min_length=1, max_length=SHORT)]
WrittenName = Annotated[StrictStr, Field(min_length=1)]  # by a model, which may write a long one


class ContentPart(Object):
    """One text of a message or of a tool's output."""

    type: Annotated[Literal["input_text", "output_text", "text"], text_only("input_text")]
    text: StrictStr
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class RefusalPart(Object):
    """A refusal that another model wrote earlier."""

    type: Literal["refusal"]
    refusal: StrictStr


def _part_kind(value: Any) -> str:
    kind = type_of(value)
    return "a refusal" if kind == "refusal" else "a text"


Part = Annotated[Annotated[ContentPart, Tag("a text")] | Annotated[RefusalPart, Tag("a refusal")], Discriminator(_part_kind)]
Content = Annotated[
    Annotated[StrictStr, Tag("a text")] | Annotated[list[Part], Field(fail_fast=True), Tag("a list")],
    Discriminator(text_or_list),
]


class StoredItem(Object):
    """What an item may repeat of the response that it comes from."""

    id: StrictStr | None = None
    status: Status = None


class InputMessage(StoredItem):
    """A message of the conversation."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    phase: StrictStr | None = None


class CallItem(StoredItem):
    """A call that the model made earlier."""

    call_id: Name
    name: WrittenName
    namespace: Name | None = None


class FunctionCallItem(CallItem):
    """A function call that the model made earlier."""

    type: Literal["function_call"]
    arguments: StrictStr


class CustomToolCallItem(CallItem):
    """A call of a custom tool that the model made earlier."""

    type: Literal["custom_tool_call"]
    input: StrictStr


class ToolOutputItem(StoredItem):
    """The output of a function or of a custom tool."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Name
    output: Content


class SummaryPart(Object):
    """A summary of reasoning; the model does not read it."""

    type: Literal["summary_text"]
    text: StrictStr


class ReasoningPart(Object):
    """Reasoning as text."""

    type: Literal["reasoning_text", "text"]
    text: StrictStr


class ReasoningItem(StoredItem):
    """Reasoning of the model from an earlier turn."""

    type: Literal["reasoning"]
    summary: Annotated[list[SummaryPart], Field(fail_fast=True)] | None = None
    content: Annotated[list[ReasoningPart], Field(fail_fast=True)] | None = None
    encrypted_content: StrictStr | None = None


class ItemReference(Object):
    """An item of a stored response, by its id."""

    type: Literal["item_reference"] | None = None
    id: Name


ITEM_KINDS = (
    *("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"),
    *("reasoning", "item_reference"),
)


class UnknownItem(Object):
    """An item of no known kind: always refused, with the known ones."""

    type: Literal[ITEM_KINDS]  # type: ignore[valid-type]


def _item_kind(value: Any) -> str:
    """The tag of an input item: errors name the right form."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind is None:
        return "item item_reference" if isinstance(value, dict) and "id" in value and "role" not in value else "item message"
    if kind in ("function_call_output", "custom_tool_call_output"):
        return "item output"
    return f"item {kind}" if kind in ITEM_KINDS else "item unknown"


InputItem = Annotated[
    Annotated[InputMessage, Tag("item message")]
    | Annotated[FunctionCallItem, Tag("item function_call")]
    | Annotated[CustomToolCallItem, Tag("item custom_tool_call")]
    | Annotated[ToolOutputItem, Tag("item output")]
    | Annotated[ReasoningItem, Tag("item reasoning")]
    | Annotated[ItemReference, Tag("item item_reference")]
    | SkipJsonSchema[Annotated[UnknownItem, Tag("item unknown")]],
    Discriminator(_item_kind),
]
Items = Annotated[list[InputItem], Field(max_length=MOST_ITEMS, fail_fast=True), at_most(MOST_ITEMS)]
