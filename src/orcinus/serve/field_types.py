"""Field types of request bodies, and checks pydantic lacks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, StrictBool, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

Number = Annotated[float, Field(strict=True)]  # a whole float is accepted, True is not
MOST_ANSWERS, MOST_PROMPTS, MOST_STOPS, MOST_LOGPROBS = 128, 64, 16, 20
LONGEST_STOP, MOST_BIASES = 256, 4096
SHORT = 1024
Stop = Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_STOP)]
Word = Annotated[StrictStr, Field(pattern=r"\S", max_length=LONGEST_STOP)]
# Marked, because their true limits are the model's: the OpenAPI document shows those.
TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31, json_schema_extra={"x-limit": "vocab_size"})]
TOKEN_NAME: JsonValue = {"pattern": "^[0-9]{1,9}$", "x-limit": "vocab_size"}
LENGTH: dict[str, JsonValue] = {"x-limit": "max_model_len"}
CONTEXT: dict[str, JsonValue] = {"x-limit": "longest_prompt"}
ANSWERS: dict[str, JsonValue] = {"x-limit": "answers"}


def _false_is_off(value: Any) -> Any:
    return None if value is False else value


def _zero_is_off(value: Any) -> Any:
    return None if value == 0 else value


def not_zero(value: int) -> int:
    """A number other than 0."""
    if value == 0:
        raise PydanticCustomError("zero", "must be at least 1, or -1 for what the context holds")
    return value


def at_most(count: int) -> BeforeValidator:
    """A validator that refuses long lists before validating their entries."""

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > count:
            raise PydanticCustomError("too_many", f"must have at most {count} entries, not {len(value)}")
        return value

    return BeforeValidator(check)


def text_only(name: str) -> BeforeValidator:
    """A validator of a part's type that refuses media; `name` is that of texts."""

    def check(kind: Any) -> Any:
        if isinstance(kind, str) and any(word in kind for word in ("image", "audio", "video", "file")):
            raise PydanticCustomError("media", f"must be {name!r}: the model reads no images, sounds or files")
        return kind

    return BeforeValidator(check)


Count = Annotated[StrictInt, Field(ge=0, le=MOST_LOGPROBS)] | None
OptionalCount = Annotated[Count, BeforeValidator(_false_is_off, json_schema_input_type=Count | Literal[False])]
OptionalSwitch = Annotated[
    StrictBool | None, BeforeValidator(_zero_is_off, json_schema_input_type=StrictBool | Literal[0] | None)
]


def text_or_list(value: Any) -> str:
    """The tag of a text-or-list field, so errors name the right form."""
    return "a list" if isinstance(value, list) else "a text"


def prompt_form(value: Any) -> str:
    """Which of the four forms a prompt has."""
    if not isinstance(value, list):
        return "a text"
    first = value[0] if value else 0
    return "several texts" if isinstance(first, str) else "several lists" if isinstance(first, list) else "token ids"


MOST_LOAD = 1024  # requests of a trial load
SEVERAL = Field(min_length=1, max_length=MOST_PROMPTS)
