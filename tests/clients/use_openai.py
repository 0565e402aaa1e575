"""openai-python: whole and streamed, sync and async, errors by class, headers, and patience with a full queue."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Literal

import openai
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from pydantic import BaseModel
from report import BASE, KEYED_URL, MODEL, NARROW_URL, brace_bias, check, leave, raised

client = OpenAI(base_url=BASE, api_key="none", max_retries=0, timeout=60)
HI = [{"role": "user", "content": "Hi"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


class Weather(BaseModel):
    """Weather of a city."""

    city: Literal["Paris", "Rome"]
    days: Literal[1, 2, 3]


TOOL = pydantic_function_tool(Weather)


@check("models.list and models.retrieve")
def models() -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


@check("models.retrieve of an unknown one is NotFoundError")
def unknown_model() -> None:
    assert raised(openai.NotFoundError, lambda: client.models.retrieve("gpt-7")).code == "model_not_found"


@check("a chat", "chat")
def chat() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HI, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@check("a streamed chat says the same", "stream")
def streamed() -> None:
    fields = {"model": MODEL, "messages": STORY, "temperature": 0, "max_completion_tokens": 60}
    whole = client.chat.completions.create(**fields)
    chunks = list(client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole.choices[0].message.content
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 60


@check("the stream helper gathers the message", "stream")
def helper() -> None:
    with client.chat.completions.stream(model=MODEL, messages=HI, temperature=0) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    whole = client.chat.completions.create(model=MODEL, messages=HI, temperature=0)
    assert final.choices[0].message.content == whole.choices[0].message.content


@check("completions, whole and streamed, of several prompts", "chat")
def completions() -> None:
    fields = {"model": MODEL, "prompt": ["Once upon a time", "The sea is"], "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**fields)
    assert [choice.index for choice in whole.choices] == [0, 1]
    texts = ["", ""]
    for chunk in client.completions.create(**fields, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]


@check("async, 8 at once", "chat")
def several() -> None:
    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=BASE, api_key="none", max_retries=0) as ours:
            answers = await asyncio.gather(
                *(ours.chat.completions.create(model=MODEL, messages=HI, temperature=0) for _ in range(8))
            )
            text = ""
            async for chunk in await ours.chat.completions.create(model=MODEL, messages=HI, temperature=0, stream=True):
                text += chunk.choices[0].delta.content or ""
            return [*(answer.choices[0].message.content for answer in answers), text]

    assert len(set(asyncio.run(ask()))) == 1


@check("logprobs of a chat and of a completion", "chat")
def logprobs() -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HI, logprobs=True, top_logprobs=3, max_tokens=4, temperature=0
    )
    for entry in answer.choices[0].logprobs.content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
    older = client.completions.create(model=MODEL, prompt="Once", logprobs=2, max_tokens=4).choices[0].logprobs
    assert len(older.tokens) == len(older.token_logprobs) == len(older.top_logprobs) == len(older.text_offset) == 4


@check("echo with logprobs of the prompt")
def echo() -> None:
    choice = client.completions.create(model=MODEL, prompt="Once upon a time", echo=True, logprobs=1, max_tokens=1).choices[0]
    assert choice.text.startswith("Once upon a time")
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])


@check("n, seed, stop, logit_bias and what is beyond OpenAI's fields", "chat")
def fields() -> None:
    two = client.chat.completions.create(model=MODEL, messages=STORY, n=2, seed=1, max_tokens=8)
    again = client.chat.completions.create(model=MODEL, messages=STORY, n=2, seed=1, max_tokens=8)
    assert [choice.message.content for choice in two.choices] == [choice.message.content for choice in again.choices]
    stopped = client.chat.completions.create(model=MODEL, messages=STORY, stop=["a"], temperature=0, logit_bias={"5": -100})
    assert "a" not in stopped.choices[0].message.content
    assert stopped.choices[0].finish_reason == "stop"
    extra = {"ignore_eos": True, "min_tokens": 3, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}
    assert (
        client.chat.completions.create(model=MODEL, messages=HI, max_tokens=30, extra_body=extra).usage.completion_tokens == 30
    )


@check("x-request-id in the raw response, ours and the client's")
def request_id() -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, max_tokens=1)
    assert raw.headers["x-request-id"]
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HI, max_tokens=1, extra_headers={"X-Request-ID": "mine"}
    )
    assert raw.headers["x-request-id"] == "mine"


@check("errors have the class of their status, and their fields", "chat")
def errors() -> None:
    bad = [
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"model": "gpt-7"}, openai.NotFoundError, "model"),
    ]
    for changed, kind, param in bad:
        fields = {"model": MODEL, "messages": HI} | changed
        error = raised(kind, lambda fields=fields: client.chat.completions.create(**fields))
        assert error.param == param, error.param
        assert error.code
        assert error.request_id, "an error without x-request-id"


@check("an unknown path is NotFoundError")
def embeddings() -> None:
    raised(openai.NotFoundError, lambda: client.embeddings.create(model=MODEL, input="x"))


@check("a wrong key is AuthenticationError, the right one is taken")
def keys() -> None:
    assert KEYED_URL, "the server could not be started with an API key"
    for wrong in ("wrong", "secreT"):
        raised(openai.AuthenticationError, OpenAI(base_url=f"{KEYED_URL}/v1", api_key=wrong, max_retries=0).models.list)
    assert OpenAI(base_url=f"{KEYED_URL}/v1", api_key="secret", max_retries=0).models.list().data


def _fill() -> threading.Thread:
    """Two long answers, which fill the queue of the narrow server."""

    def ask() -> None:
        other = OpenAI(base_url=f"{NARROW_URL}/v1", api_key="none", max_retries=0)
        stream = other.completions.create(
            model=MODEL, prompt="Once", n=2, max_tokens=500, stream=True, extra_body={"ignore_eos": True}
        )
        for _ in stream:
            begun.set()

    begun = threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(20)
    return thread


@check("a full queue is RateLimitError with Retry-After")
def full() -> None:
    thread = _fill()
    hasty = OpenAI(base_url=f"{NARROW_URL}/v1", api_key="none", max_retries=0)
    try:
        error = raised(openai.RateLimitError, lambda: hasty.completions.create(model=MODEL, prompt="Hi", max_tokens=1))
        assert int(error.response.headers["retry-after"]) >= 1
    finally:
        thread.join()


@check("the client waits as Retry-After says, and is answered")
def patient() -> None:
    thread, began = _fill(), time.monotonic()
    ours = OpenAI(base_url=f"{NARROW_URL}/v1", api_key="none", max_retries=8)
    assert ours.completions.create(model=MODEL, prompt="Hi", max_tokens=1).choices
    assert time.monotonic() - began >= 0.9
    thread.join()


@check("a client that leaves a stream does no harm", "stream")
def leaves() -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=STORY, stream=True, max_tokens=1000, extra_body={"ignore_eos": True}
    )
    for _ in range(3):
        next(stream)
    stream.close()
    assert client.chat.completions.create(model=MODEL, messages=HI, max_tokens=1).choices


@check("a tool is called, and its result read", "tools")
def tools() -> None:
    fields = {"model": MODEL, "tools": [TOOL], "temperature": 0, "max_tokens": 80}
    choice = client.chat.completions.create(messages=HI, tool_choice="required", parallel_tool_calls=False, **fields).choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert Weather.model_validate_json(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    assert client.chat.completions.create(messages=[*HI, choice.message, result], **fields).choices[0].finish_reason


@check("a named tool, streamed through the helper, says the same", "tools")
def streamed_tools() -> None:
    named = {"type": "function", "function": {"name": "Weather"}}
    fields = {"model": MODEL, "messages": HI, "tools": [TOOL], "tool_choice": named, "temperature": 0}
    whole = client.chat.completions.parse(**fields).choices[0].message.tool_calls[0].function
    with client.chat.completions.stream(**fields) as stream:
        pieces = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert "".join(pieces) == call.function.arguments == whole.arguments
    assert call.function.parsed_arguments == whole.parsed_arguments == Weather.model_validate_json(whole.arguments)


@check("parse gives an object of the class", "json schema")
def parse() -> None:
    answer = client.chat.completions.parse(model=MODEL, messages=HI, response_format=Weather, temperature=0)
    assert isinstance(answer.choices[0].message.parsed, Weather)


@check("a JSON object", "json object")
def json_object() -> None:
    form = {"type": "json_object"}
    fields = {"model": MODEL, "messages": HI, "response_format": form, "temperature": 0, "logit_bias": brace_bias()}
    choice = client.chat.completions.create(**fields).choices[0]
    assert (json.loads(choice.message.content), choice.finish_reason) == ({}, "stop")


@check("a response, whole and streamed through the helper", "responses")
def responses() -> None:
    fields = {"model": MODEL, "input": "Hi", "temperature": 0}
    whole = client.responses.create(**fields)
    with client.responses.stream(**fields) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == whole.output_text
    assert text
    assert final.usage.output_tokens == whole.usage.output_tokens


@check("a response with a tool, its result, and a parsed answer", "responses")
def response_tools() -> None:
    tool = {"type": "function", "name": "weather", "parameters": TOOL["function"]["parameters"], "strict": True}
    fields = {"model": MODEL, "temperature": 0, "store": False, "tools": [tool]}
    history = [{"role": "user", "content": "Hi"}]
    first = client.responses.create(input=history, tool_choice="required", parallel_tool_calls=False, **fields)
    (call,) = (item for item in first.output if item.type == "function_call")
    assert Weather.model_validate_json(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    second = client.responses.parse(input=[*history, *first.output, result], text_format=Weather, **fields | {"tools": []})
    assert isinstance(second.output_parsed, Weather)


leave()
