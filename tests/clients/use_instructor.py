"""instructor: objects of a class in each of its modes, whole, partial and in lists, over all three APIs."""

from __future__ import annotations

from typing import Literal

import anthropic
import instructor
from openai import OpenAI
from pydantic import BaseModel
from report import BASE, MODEL, URL, brace_bias, check, leave

Mode = instructor.Mode
HI = [{"role": "user", "content": "Hi"}]
COMMON = {"model": MODEL, "messages": HI, "temperature": 0, "max_retries": 1}
ours = OpenAI(base_url=BASE, api_key="none", max_retries=0)


class Weather(BaseModel, extra="forbid"):
    """The weather of a city."""

    city: Literal["Paris", "Rome"]
    sunny: bool


for mode, feature in (
    (Mode.TOOLS, "tools"),
    (Mode.TOOLS_STRICT, "tools"),
    (Mode.JSON_SCHEMA, "json schema"),
    (Mode.RESPONSES_TOOLS, "responses"),
):

    @check(f"{mode.name}: an object of the class", feature)
    def whole(mode: Mode = mode) -> None:
        client = instructor.from_openai(ours, mode=mode)
        assert isinstance(client.chat.completions.create(response_model=Weather, **COMMON), Weather)


@check("TOOLS: partial objects grow to the whole one", "stream")
def partial() -> None:
    client = instructor.from_openai(ours, mode=Mode.TOOLS)
    *_, last = client.chat.completions.create_partial(response_model=Weather, **COMMON)
    whole = client.chat.completions.create(response_model=Weather, **COMMON)
    assert last.model_dump() == whole.model_dump()


@check("JSON_SCHEMA: a streamed list of objects", "stream")
def listed() -> None:
    client = instructor.from_openai(ours, mode=Mode.JSON_SCHEMA)
    found = client.chat.completions.create_iterable(response_model=Weather, **COMMON, max_tokens=200)
    assert all(isinstance(one, Weather) for one in found)


@check("JSON: a JSON object reaches the class", "json object")
def json_object() -> None:
    seen: list[dict[str, object]] = []

    class Anything(BaseModel, extra="allow"):
        """Any object."""

    client = instructor.from_openai(ours, mode=Mode.JSON)
    client.on("completion:kwargs", lambda **fields: seen.append(fields))
    assert isinstance(client.chat.completions.create(response_model=Anything, **COMMON, logit_bias=brace_bias()), Anything)
    assert seen[0]["response_format"]["type"] == "json_object"


@check("a chat without a class", "chat")
def chat() -> None:
    answer = instructor.from_openai(ours).chat.completions.create(response_model=None, **COMMON)
    assert answer.choices[0].message.content


@check("ANTHROPIC_TOOLS: an object of the class", "messages")
def messages() -> None:
    client = instructor.from_anthropic(
        anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0), mode=Mode.ANTHROPIC_TOOLS
    )
    found = client.messages.create(model=MODEL, messages=HI, max_tokens=100, max_retries=1, response_model=Weather)
    assert isinstance(found, Weather)


leave()
