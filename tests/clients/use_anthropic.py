"""anthropic-python: messages whole and streamed, tools, counting, errors by class, keys under both names."""

from __future__ import annotations

import asyncio
import threading
import time

import anthropic
from anthropic import Anthropic, AsyncAnthropic
from report import KEYED_URL, MODEL, NARROW_URL, URL, check, leave, raised

client = Anthropic(base_url=URL, api_key="none", max_retries=0, timeout=60)
HI = [{"role": "user", "content": "Hi"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]
SCHEMA = {
    "type": "object",
    "properties": {"zone": {"enum": ["UTC", "CET"]}},
    "required": ["zone"],
    "additionalProperties": False,
}
CLOCK = {"name": "clock", "description": "The time in a zone.", "input_schema": SCHEMA}
EXTRA = {"extra_body": {"temperature": 0}}  # this version of the package has no field for it
GREEDY = {"model": MODEL, "messages": STORY, "max_tokens": 60, **EXTRA}


@check("a message", "messages")
def message() -> None:
    answer = client.messages.create(model=MODEL, messages=HI, max_tokens=100, **EXTRA)
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert answer.content[0].text
    assert answer._request_id
    assert answer.usage.output_tokens > 0


@check("the stream helper gathers the same message", "stream")
def streamed() -> None:
    whole = client.messages.create(**GREEDY)
    with client.messages.stream(**GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    assert (
        (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens) == ("max_tokens", 60)
    )


@check("the beta path, with its query and headers", "messages")
def beta() -> None:
    answer = client.beta.messages.create(**GREEDY, betas=["interleaved-thinking-2025-05-14"])
    assert answer.content[0].text == client.messages.create(**GREEDY).content[0].text


@check("counted tokens are those of the request", "messages")
def counted() -> None:
    fields = {"model": MODEL, "messages": HI, "system": "Be brief.", "tools": [CLOCK]}
    usage = client.messages.create(**fields, max_tokens=1).usage
    count = client.messages.count_tokens(**fields).input_tokens
    assert count == usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


@check("a forced call fits its schema, whole and streamed, and its result goes back", "tools")
def tools() -> None:
    fields = GREEDY | {"messages": HI, "tools": [CLOCK], "tool_choice": {"type": "tool", "name": "clock"}}
    whole = client.messages.create(**fields)
    with client.messages.stream(**fields) as stream:
        final = stream.get_final_message()
    assert whole.stop_reason == final.stop_reason == "tool_use"
    call = whole.content[-1]
    assert (call.type, call.name) == ("tool_use", "clock")
    assert call.input == final.content[-1].input
    assert call.input["zone"] in ("UTC", "CET")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "noon"}
    past = [*HI, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(model=MODEL, messages=past, tools=[CLOCK], max_tokens=5).content


@check("an answer in a schema", "json schema")
def schema() -> None:
    answer = client.messages.create(**GREEDY, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert answer.content[0].text.replace(" ", "") in ('{"zone":"UTC"}', '{"zone":"CET"}')


@check("the stop sequence that ended an answer", "messages")
def stop() -> None:
    answer = client.messages.create(**GREEDY, stop_sequences=["a"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "a")


@check("the answer continues the last message of the assistant", "messages")
def prefilled() -> None:
    past = [*STORY, {"role": "assistant", "content": "Once upon a"}]
    assert client.messages.create(**GREEDY | {"messages": past}).content[0].text


@check("the second turn finds the first in the cache", "messages")
def cached() -> None:
    text = "The fox lives in the wood and the wood is old. " * 8
    system = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    first = client.messages.create(**GREEDY | {"messages": HI}, system=system)
    past = [*HI, {"role": "assistant", "content": first.content}, *STORY]
    second = client.messages.create(**GREEDY | {"messages": past}, system=system)
    assert second.usage.cache_read_input_tokens > 48


@check("many at once")
def many() -> None:
    async def scenario() -> set[str]:
        async with AsyncAnthropic(base_url=URL, api_key="none", max_retries=0) as ours:
            answers = await asyncio.gather(*(ours.messages.create(**GREEDY) for _ in range(12)))
            return {answer.content[0].text for answer in answers}

    assert len(asyncio.run(scenario())) == 1


@check("errors are the package's own classes, and name the field")
def errors() -> None:
    for fields, kind, told in (
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens"),
        ({"extra_body": {"temperature": 2}}, anthropic.BadRequestError, "temperature"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, anthropic.BadRequestError, "messages.0.content.0"),
        ({"model": "claude"}, anthropic.NotFoundError, "claude"),
    ):
        error = raised(kind, lambda fields=fields: client.messages.create(**GREEDY | fields))
        assert told in error.body["error"]["message"]
        assert error.body["type"] == "error"
        assert error.request_id == error.body["request_id"]


@check("a key under either name")
def keys() -> None:
    assert KEYED_URL, "the server could not be started with an API key"
    x_api_key = {"X-Api-Key": "secret"}
    for named in ({"api_key": "secret"}, {"auth_token": "secret"}, {"api_key": "secret", "default_headers": x_api_key}):
        assert Anthropic(base_url=KEYED_URL, max_retries=0, **named).messages.create(**GREEDY).content
    for named in ({"api_key": "secreT"}, {"api_key": "other", "default_headers": x_api_key}):
        wrong = Anthropic(base_url=KEYED_URL, max_retries=0, **named)
        raised(anthropic.AuthenticationError, lambda wrong=wrong: wrong.messages.create(**GREEDY))


@check("a full queue is RateLimitError with Retry-After, and the client waits")
def full() -> None:
    narrow = Anthropic(base_url=NARROW_URL, api_key="none", max_retries=0)
    long = {"prompt": "Once", "n": 2, "max_tokens": 500, "ignore_eos": True}
    thread = threading.Thread(target=narrow.post, args=("/v1/completions",), kwargs={"body": long, "cast_to": object})
    thread.start()
    for _ in range(400):
        if narrow.get("/v1/scheduler", cast_to=object)["running"] == 2:
            break
        time.sleep(0.05)
    error = raised(anthropic.RateLimitError, lambda: narrow.messages.create(**GREEDY))
    assert int(error.response.headers["retry-after"]) >= 1
    assert error.body["error"]["type"] == "rate_limit_error"
    patient = Anthropic(base_url=NARROW_URL, api_key="none", max_retries=8)
    assert patient.messages.create(**GREEDY).content
    thread.join()


leave()
