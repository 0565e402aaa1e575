"""Which form a request wants its answer in, whatever its fields are called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orcinus.core.structured_outputs import KINDS, StructuredOutputs
from orcinus.errors import RequestError
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.structured_output_schema import (
    JsonObjectFormat,
    JsonSchemaFormat,
    StructuredOutputFields,
    StructuredOutputsObject,
)


@dataclass(frozen=True, slots=True)
class WantedForm:
    """The form of an answer, and the field that asks for it."""

    field: str
    outputs: StructuredOutputs


def wanted_form(body: StructuredOutputFields) -> WantedForm | None:
    """The form that a body asks for; None for any text.

    Raises `ApiError` 400 if its fields ask for different ones.
    """
    found = list(_forms(body))
    for other in found[1:]:
        if other.outputs != found[0].outputs:
            message = f"{other.field}: {found[0].field} asks for another form of the answer: give one of them"
            raise invalid(other.field, message)
    return found[0] if found else None


def _forms(body: StructuredOutputFields) -> Iterator[WantedForm]:
    match body.response_format:
        case JsonSchemaFormat(json_schema=named):
            yield _form("response_format.json_schema.schema", "json", named.schema_)
        case JsonObjectFormat(schema_=schema) if schema is not None:
            yield _form("response_format.schema", "json", schema)
        case JsonObjectFormat():
            yield WantedForm("response_format", StructuredOutputs(json_object=True))
    if body.structured_outputs is not None:
        yield from _of_object(body.structured_outputs)
    others = {
        "guided_json": ("json", body.guided_json),
        "guided_regex": ("regex", body.guided_regex),
        "guided_choice": ("choice", body.guided_choice),
        "guided_grammar": ("grammar", body.guided_grammar),
        "json_schema": ("json", body.json_schema),
        "regex": ("regex", body.regex),
        "grammar": ("grammar", body.grammar),
        "ebnf": ("grammar", body.ebnf),
    }
    for field, (kind, value) in others.items():
        if value is not None:
            yield _form(field, kind, value)


def _of_object(given: StructuredOutputsObject) -> Iterator[WantedForm]:
    for kind in ("json", "regex", "choice", "grammar"):
        value = getattr(given, "json_" if kind == "json" else kind)
        if value is not None:
            yield _form(f"structured_outputs.{kind}", kind, value)
    if given.json_object:
        yield WantedForm("structured_outputs.json_object", StructuredOutputs(json_object=True))


def _form(field: str, kind: str, value: Any) -> WantedForm:
    try:
        return WantedForm(field, StructuredOutputs(**{kind: value}))
    except RequestError as error:
        raise refused_form(field, error) from None


def refused_form(field: str, error: RequestError) -> ApiError:
    """An error of a form, under the name that the client used."""
    message = re.sub(rf"^({'|'.join((*KINDS, 'structured_outputs'))})\b:? ", "", str(error))
    return invalid(field, f"{field}: the form cannot be used: {message}")
