"""Fields that bind an answer to a form, under the names of several engines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StrictBool, StrictStr, Tag
from pydantic_core import PydanticCustomError

from orcinus.serve.field_types import at_most
from orcinus.serve.object_schema import Object, type_of
from orcinus.serve.unsupported import IN_STRUCTURED_OUTPUTS

MOST_CHOICES = 1024
FORMATS = ("text", "json_object", "json_schema")


def _false_is_off(value: Any) -> Any:
    return None if value is False or value == "" else value


def _empty_is_off(value: Any) -> Any:
    return None if value == "" else value


def _known_format(value: Any) -> Any:
    if value not in FORMATS:
        raise PydanticCustomError("literal_error", "", {"expected": "'text', 'json_object' or 'json_schema'"})
    return value


Schema = Annotated[
    dict[str, Any] | StrictStr | None,
    BeforeValidator(_false_is_off, json_schema_input_type=dict[str, Any] | StrictStr | Literal[False] | None),
    Field(description="A JSON Schema, or its text."),
]
Text = Annotated[StrictStr | None, BeforeValidator(_empty_is_off, json_schema_input_type=StrictStr | None)]
Choices = Annotated[
    Annotated[list[Annotated[StrictStr, Field(min_length=1)]], Field(min_length=1, max_length=MOST_CHOICES)] | None,
    at_most(MOST_CHOICES),
]


class TextFormat(Object):
    """Any text."""

    type: Annotated[Literal["text"], BeforeValidator(_known_format)]


class JsonObjectFormat(Object):
    """A JSON object, or what `schema` says (llama.cpp's field)."""

    type: Literal["json_object"]
    schema_: Annotated[Schema, Field(alias="schema")] = None


class NamedSchema(Object):
    """A JSON Schema; it binds the answer with and without `strict`."""

    name: StrictStr | None = None
    description: StrictStr | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: StrictBool | None = None


class JsonSchemaFormat(Object):
    """JSON as a schema says."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


def _format_kind(value: Any) -> str:
    """The tag of a format, so errors name its own fields."""
    kind = type_of(value)
    return f"format {kind}" if kind in FORMATS else "format text"


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("format text")]
    | Annotated[JsonObjectFormat, Tag("format json_object")]
    | Annotated[JsonSchemaFormat, Tag("format json_schema")],
    Discriminator(_format_kind),
]


class StructuredOutputsObject(Object):
    """vLLM's `structured_outputs`: at most one of these."""

    unsupported = IN_STRUCTURED_OUTPUTS

    json_: Annotated[Schema, Field(alias="json")] = None
    regex: Text = None
    choice: Choices = None
    grammar: Text = None
    json_object: StrictBool | None = None


class StructuredOutputFields(Object):
    """Fields of a request of which at most one form may follow."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputsObject | None = None
    guided_json: Schema = None
    guided_regex: Text = None
    guided_choice: Choices = None
    guided_grammar: Text = None
    json_schema: Schema = None
    regex: Text = None
    grammar: Annotated[Text, Field(description="A grammar in GBNF or Lark.")] = None
    ebnf: Text = None
