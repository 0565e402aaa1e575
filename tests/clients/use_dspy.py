"""dspy: its adapters over chats and responses, with schemas, tools and streams."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

import dspy
from dspy.lm15 import AccessPolicy, ModelSupport, OpenAIChatCompat, ProviderDefinition, register_provider
from report import BASE, CALLING_URL, MODEL, brace_bias, check, leave

COMMON = {"api_key": "none", "cache": False, "temperature": 0, "max_tokens": 60, "num_retries": 0}
AVAILABLE = ModelSupport(function_calling=True, response_schema=True)  # dspy believes it of no model that it does not know
access = AccessPolicy(provider="orcinus", env_keys=("ORCINUS_API_KEY",), base_url=BASE)
register_provider(ProviderDefinition.chat(access, compat=OpenAIChatCompat()), supports=AVAILABLE)
lm = dspy.LM(f"orcinus/{MODEL}", **COMMON)
responses = dspy.LM(f"openai/{MODEL}", api_base=BASE, model_type="responses", **COMMON)
calling = dspy.LM(f"orcinus/{MODEL}", api_base=f"{CALLING_URL}/v1", **COMMON)  # dspy leaves tool_choice to the server
dspy.configure(lm=lm, adapter=dspy.JSONAdapter())

CITIES = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


class Guess(dspy.Signature):
    """Guess a city."""

    question: str = dspy.InputField()
    city: Literal["Paris", "Rome"] = dspy.OutputField()
    sure: bool = dspy.OutputField()


class Ask(dspy.Signature):
    """Ask for the weather."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


@check("LM: a prompt, and messages", "chat")
def chat() -> None:
    (text,) = lm("Hi")
    assert text
    assert lm(messages=[{"role": "user", "content": "Hi"}]) == [text]
    assert lm.history[-1]["usage"]["completion_tokens"] > 0


@check("Predict with JSONAdapter: fields of the signature", "json schema")
def schema() -> None:
    found = dspy.Predict(Guess)(question="Which city?")
    assert found.city in ("Paris", "Rome")
    assert isinstance(found.sure, bool)


@check("Predict with ChatAdapter: falls back to JSON where the model does not write the marks", "chat")
def fallback() -> None:
    with dspy.context(adapter=dspy.ChatAdapter()):
        assert dspy.Predict(Guess)(question="Which city?").city in ("Paris", "Rome")


@check("LM: a JSON object", "json object")
def json_object() -> None:
    (text,) = lm("Answer in JSON.", response_format={"type": "json_object"}, logit_bias=brace_bias())
    assert json.loads(text) == {}


@check("native function calling: the call is parsed and executed", "tools")
def tools() -> None:
    with dspy.context(lm=calling):
        found = dspy.Predict(Ask)(question="How is the weather?", tools=[dspy.Tool(weather)])
    (call, *_) = found.calls.tool_calls
    assert call.name == "weather"
    assert weather(**call.args) in ("Sunny in Paris.", "Sunny in Rome.")


@check("streamify: the pieces of a field", "stream")
def streamed() -> None:
    listener = dspy.streaming.StreamListener(signature_field_name="city")
    program = dspy.streamify(dspy.Predict(Guess), stream_listeners=[listener])

    async def pieces() -> list[object]:
        return [piece async for piece in program(question="Which city?")]

    *parts, last = asyncio.run(pieces())
    assert isinstance(last, dspy.Prediction)
    text = "".join(part.chunk for part in parts if isinstance(part, dspy.streaming.StreamResponse))
    assert text.strip(' "').startswith(last.city)  # dspy ends a field by marks that its own prompts ask for


@check("model_type responses: a prompt, and a required call", "responses")
def over_responses() -> None:
    assert responses("Hi")
    function = {"name": "weather", "description": "Weather of a city.", "parameters": CITIES}
    (answer,) = responses("Hi", tools=[{"type": "function", "function": function}], tool_choice="required")
    (call, *_) = answer["tool_calls"]
    assert "weather" in str(call)


leave()
