"""litellm by its three roads to a server like ours."""

from __future__ import annotations

import asyncio
import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the price list is not fetched

import litellm
from report import BASE, MODEL, URL, brace_bias, check, leave, raised

litellm.telemetry = False
litellm.suppress_debug_info = True
HI = [{"role": "user", "content": "Hi"}]
CITIES = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Weather of a city.", "parameters": CITIES}}
COMMON = {"api_base": BASE, "api_key": "none", "temperature": 0, "max_tokens": 20, "num_retries": 0}

for road in ("hosted_vllm", "openai"):

    @check(f"{road}/: a chat", "chat")
    def chat(road: str = road) -> None:
        answer = litellm.completion(model=f"{road}/{MODEL}", messages=HI, **COMMON)
        assert answer.choices[0].message.content
        assert answer.usage.completion_tokens > 0

    @check(f"{road}/: streamed, with usage", "stream")
    def streamed(road: str = road) -> None:
        whole = litellm.completion(model=f"{road}/{MODEL}", messages=HI, **COMMON)
        chunks = list(
            litellm.completion(
                model=f"{road}/{MODEL}", messages=HI, stream=True, stream_options={"include_usage": True}, **COMMON
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        usage = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
        assert usage[-1].completion_tokens == whole.usage.completion_tokens

    @check(f"{road}/: errors by class")
    def errors(road: str = road) -> None:
        for changed, kind in ({"temperature": 5}, litellm.BadRequestError), ({"model": f"{road}/gpt-7"}, litellm.NotFoundError):
            fields = {"model": f"{road}/{MODEL}", "messages": HI} | COMMON | changed
            raised(kind, lambda fields=fields: litellm.completion(**fields))

    @check(f"{road}/: a tool is called, and its result read", "tools")
    def tools(road: str = road) -> None:
        fields = COMMON | {"model": f"{road}/{MODEL}", "tools": [WEATHER], "max_tokens": 80}
        message = (
            litellm.completion(messages=HI, tool_choice="required", parallel_tool_calls=False, **fields).choices[0].message
        )
        (call,) = message.tool_calls
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
        result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
        assert litellm.completion(messages=[*HI, message, result], **fields).choices[0].finish_reason

    @check(f"{road}/: an answer in a schema", "json schema")
    def schema(road: str = road) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITIES, "strict": True}}
        answer = litellm.completion(model=f"{road}/{MODEL}", messages=HI, response_format=form, **COMMON)
        assert json.loads(answer.choices[0].message.content)["city"] in ("Paris", "Rome")

    @check(f"{road}/: a JSON object", "json object")
    def json_object(road: str = road) -> None:
        fields = COMMON | {"logit_bias": brace_bias(), "response_format": {"type": "json_object"}}
        answer = litellm.completion(model=f"{road}/{MODEL}", messages=HI, **fields)
        assert json.loads(answer.choices[0].message.content) == {}


@check("text-completion-openai/: whole and streamed")
def text() -> None:
    fields = {"model": f"text-completion-openai/{MODEL}", "prompt": "Once upon a time", **COMMON}
    whole = litellm.text_completion(**fields)
    assert whole.choices[0].text
    chunks = list(litellm.text_completion(**fields, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text or "" for chunk in chunks if chunk.choices) == whole.choices[0].text


@check("hosted_vllm/: logprobs, n, stop and seed", "chat")
def fields() -> None:
    answer = litellm.completion(
        model=f"hosted_vllm/{MODEL}", messages=HI, logprobs=True, top_logprobs=2, n=2, stop=["zzz"], seed=1, **COMMON
    )
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs.content


@check("responses(), whole and streamed", "responses")
def responses() -> None:
    fields = {"model": f"openai/{MODEL}", "input": "Hi", "api_base": BASE, "api_key": "none", "temperature": 0}
    whole = litellm.responses(**fields, max_output_tokens=20)
    events = list(litellm.responses(**fields, max_output_tokens=20, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output[0].content[0].text


@check("anthropic.messages, whole", "messages")
def messages() -> None:
    fields = {"model": f"anthropic/{MODEL}", "messages": HI, "max_tokens": 20, "api_base": URL, "api_key": "none"}
    answer = asyncio.run(litellm.anthropic.messages.acreate(**fields))
    assert answer["content"][0]["text"]


@check("anthropic/: a chat over /v1/messages", "messages")
def anthropic() -> None:
    fields = COMMON | {"api_base": URL}
    assert litellm.completion(model=f"anthropic/{MODEL}", messages=HI, **fields).choices[0].message.content


leave()
