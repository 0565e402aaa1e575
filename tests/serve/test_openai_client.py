"""openai-python against the server: what most users will hold in their hands."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.serve.conftest import Running

HI = [{"role": "user", "content": "Hi"}]
MODEL = "orcinus-tiny"


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "orcinus"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


def test_a_chat_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=HI, temperature=0)  # type: ignore[arg-type]
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    frames = list(
        client.chat.completions.create(
            model=MODEL,
            messages=HI,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},  # type: ignore[arg-type]
        )
    )
    assert "".join(frame.choices[0].delta.content or "" for frame in frames[:-1]) == whole.choices[0].message.content
    assert frames[0].choices[0].delta.role == "assistant"
    assert frames[-1].usage == whole.usage
    assert [frame.choices[0].finish_reason for frame in frames[:-1] if frame.choices[0].finish_reason] == ["stop"]


def test_completions_with_log_probabilities_of_prompt_and_answer(client: openai.OpenAI) -> None:
    found = client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=3, temperature=0, logprobs=2, echo=True
    )
    choice = found.choices[0]
    assert choice.text.startswith("Once upon a time")
    assert choice.logprobs is not None
    tokens, values, offsets = choice.logprobs.tokens, choice.logprobs.token_logprobs, choice.logprobs.text_offset
    assert tokens is not None and values is not None and offsets is not None  # noqa: PT018
    assert "".join(tokens) == choice.text
    assert values[0] is None
    assert all(value <= 0 for value in values[1:])
    assert [choice.text[at:].startswith(token) for at, token in zip(offsets, tokens, strict=True)] == [True] * len(tokens)
    assert found.usage is not None
    assert len(tokens) == found.usage.prompt_tokens + 3


def test_scoring_a_prompt_generates_nothing(client: openai.OpenAI) -> None:
    scored = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=0, logprobs=1, echo=True)
    assert scored.choices[0].text == "Once upon a time"
    assert scored.choices[0].finish_reason == "length"
    assert scored.usage is not None
    assert scored.usage.completion_tokens == 0
    assert scored.choices[0].logprobs is not None
    assert len(scored.choices[0].logprobs.tokens or []) == scored.usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 10_000}, openai.BadRequestError, "max_tokens"),
        ({"model": "gpt-4"}, openai.NotFoundError, "model"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, openai.BadRequestError, "messages[0].role"),
        ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice"),
    ],
    ids=range(5),
)
def test_errors_are_the_clients_own_classes(
    client: openai.OpenAI, fields: dict[str, object], kind: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": MODEL, "messages": HI} | fields)  # type: ignore[call-overload]
    assert caught.value.param == param
    assert caught.value.request_id


def test_a_conversation_with_tool_calls_in_its_past(client: openai.OpenAI) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    past = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
        {"role": "user", "content": "Thanks"},
    ]
    assert client.chat.completions.create(model=MODEL, messages=past, max_completion_tokens=3).choices  # type: ignore[arg-type]


def test_many_at_once(server: Running) -> None:
    async def scenario() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:

            async def one(number: int) -> str:
                stream = await client.completions.create(
                    model=MODEL, prompt=f"Number {number % 4}", stream=True, temperature=0, max_tokens=8
                )
                return "".join([frame.choices[0].text async for frame in stream])

            texts = await asyncio.gather(*(one(number) for number in range(24)))
            assert all(texts[number] == texts[number % 4] for number in range(24))

    asyncio.run(scenario())


class Weather(BaseModel):
    """What the model is asked to write."""

    sunny: bool
    wind: Literal["north", "south"]


def test_an_answer_is_parsed_into_a_model(client: openai.OpenAI) -> None:
    found = client.chat.completions.parse(model=MODEL, messages=HI, temperature=0, response_format=Weather)  # type: ignore[arg-type]
    assert isinstance(found.choices[0].message.parsed, Weather)


def test_a_tool_is_called_and_its_result_is_sent_back(client: openai.OpenAI) -> None:
    """The package's own accumulation of a stream gives what the whole answer has, up to ids."""
    tool = openai.pydantic_function_tool(Weather, name="forecast")
    fields: Any = {"model": MODEL, "messages": HI, "temperature": 0, "tools": [tool], "tool_choice": "required"}
    fields["parallel_tool_calls"] = False
    whole = client.chat.completions.parse(**fields).choices[0]
    assert whole.finish_reason == "tool_calls"
    (call,) = whole.message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Weather)
    with client.chat.completions.stream(**fields) as stream:
        streamed = stream.get_final_completion().choices[0]
    (same,) = streamed.message.tool_calls or ()
    assert (same.function.name, same.function.arguments) == (call.function.name, call.function.arguments)
    assert streamed.message.content is None
    history: Any = [*HI, whole.message, {"role": "tool", "tool_call_id": call.id, "content": "Noted."}]
    answered = client.chat.completions.create(model=MODEL, messages=history, tools=[tool], tool_choice="none", max_tokens=5)
    assert answered.choices[0].message.content


def test_an_allowed_custom_tool_is_called_and_its_result_is_sent_back(client: openai.OpenAI) -> None:
    """The package's helper for streams knows no custom tools, so its raw chunks are joined here."""
    form = {"type": "grammar", "grammar": {"syntax": "regex", "definition": '[a-z]{3} "x"'}}
    tools: Any = [{"type": "custom", "custom": {"name": "edit", "format": form}}]
    allowed = {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "edit"}}]}
    choice: Any = {"type": "allowed_tools", "allowed_tools": allowed}
    fields: Any = {"model": MODEL, "messages": HI, "temperature": 0, "tools": tools, "tool_choice": choice}
    fields |= {"max_tokens": 60, "parallel_tool_calls": False}
    message = client.chat.completions.create(**fields).choices[0].message
    (call,) = message.tool_calls or ()
    assert call.type == "custom"
    assert re.fullmatch('[a-z]{3} "x"', call.custom.input)
    chunks = [chunk.choices[0].delta.tool_calls for chunk in client.chat.completions.create(stream=True, **fields)]
    pieces: list[Any] = [one.model_dump()["custom"] for calls in chunks for one in calls or ()]
    assert pieces[0]["name"] == "edit"
    assert "".join(piece["input"] for piece in pieces) == call.custom.input
    history: Any = [*HI, message, {"role": "tool", "tool_call_id": call.id, "content": "Noted."}]
    assert client.chat.completions.create(model=MODEL, messages=history, tools=tools, max_tokens=2).choices
