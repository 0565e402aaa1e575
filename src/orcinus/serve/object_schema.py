"""The base of objects in request bodies: unknown fields are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from orcinus.serve.unsupported import NO_FIELDS, UnsupportedFields

# Fields of OpenAI's API that change no answer: accepted, and named in a header.
IGNORED = (
    *("metadata", "store", "service_tier", "safety_identifier", "reasoning_effort", "verbosity"),
    *("prediction", "prompt_cache_retention", "prompt_cache_options", "client_metadata", "max_tool_calls"),
)
IGNORED_INSIDE = ("annotations",)  # fields of messages that the openai package repeats


def type_of(value: Any) -> Any:
    """The type of an object, as it was sent or as it was read."""
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


class Object(BaseModel):
    """An object of a request.

    Unknown fields are kept: those in `unsupported` are refused, others named.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    unsupported: ClassVar[UnsupportedFields] = NO_FIELDS
    ignored: ClassVar[tuple[str, ...]] = ()  # fields of another API than OpenAI's that change no answer
    index_form: ClassVar[str] = "[{}]"  # of a list's index in the path of a field

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        if patterns := cls.unsupported.pattern_properties(set(schema.get("properties", ()))):
            schema["patternProperties"] = patterns
        return schema

    def objects(self, path: str = "") -> Iterator[tuple[str, Object]]:
        """This object and its inner ones, each with its path prefix.

        A prefix is "" or "messages[2].", for example; its form is this object's.
        """
        yield path, self
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Object):
                yield from value.objects(f"{path}{name}.")
            elif isinstance(value, list):
                for index, one in enumerate(value):
                    if isinstance(one, Object):
                        yield from one.objects(f"{path}{name}{self.index_form.format(index)}.")
