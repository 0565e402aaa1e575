"""langchain-openai: chats and the older completions, whole, streamed, in batches."""

from __future__ import annotations

import asyncio
import operator
from functools import reduce
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel
from report import BASE, MODEL, brace_bias, check, leave

COMMON = {"model": MODEL, "base_url": BASE, "api_key": "none", "temperature": 0, "max_retries": 0}
chat = ChatOpenAI(**COMMON, max_tokens=20, stream_usage=True)
text = OpenAI(**COMMON, max_tokens=12)
roomy = ChatOpenAI(**COMMON, max_tokens=300)
responses = ChatOpenAI(**COMMON, max_tokens=80, use_responses_api=True)


class City(BaseModel):
    """A city."""

    name: Literal["Paris", "Rome"]


@tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


@check("ChatOpenAI: invoke, with counts", "chat")
def invoke() -> None:
    answer = chat.invoke("Hi")
    assert answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


@check("ChatOpenAI: stream says the same, with counts", "stream")
def stream() -> None:
    chunks = list(chat.stream("Hi"))
    whole = chat.invoke("Hi")
    assert "".join(chunk.content for chunk in chunks) == whole.content
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


@check("ChatOpenAI: a conversation with a system message and parts", "chat")
def conversation() -> None:
    parts = HumanMessage([{"type": "text", "text": "Tell me a story."}])
    assert chat.invoke([SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello!"), parts]).content


@check("ChatOpenAI: a batch, and async", "chat")
def batch() -> None:
    answers = chat.batch(["Hi", "Hello", "Hi"])
    assert answers[0].content == answers[2].content
    assert asyncio.run(chat.ainvoke("Hi")).content == answers[0].content


@check("ChatOpenAI: logprobs and stop", "chat")
def logprobs() -> None:
    answer = chat.bind(logprobs=True, top_logprobs=2, stop=["zzz"]).invoke("Hi")
    assert answer.response_metadata["logprobs"]["content"]


@check("OpenAI: invoke and stream")
def older() -> None:
    whole = text.invoke("Once upon a time")
    assert whole
    assert "".join(text.stream("Once upon a time")) == whole


@check("OpenAI: a batch is one request with a list of prompts")
def older_batch() -> None:
    found = text.generate(["Once upon a time", "The sea is"])
    assert [one[0].text for one in found.generations] == [text.invoke(prompt) for prompt in ("Once upon a time", "The sea is")]
    assert found.llm_output["token_usage"]["completion_tokens"] == 24


for name, model, feature in (("ChatOpenAI", roomy, "tools"), ("ChatOpenAI over /v1/responses", responses, "responses")):

    @check(f"{name}: a tool is called, and its result read", feature)
    def tools(model: ChatOpenAI = model) -> None:
        asking = model.bind_tools([weather], tool_choice="required", parallel_tool_calls=False)
        answer = asking.invoke("Hi")
        (call,) = answer.tool_calls
        result = weather.invoke(call)
        assert isinstance(result, ToolMessage)
        assert result.content in ("Sunny in Paris.", "Sunny in Rome.")
        assert model.bind_tools([weather]).invoke([HumanMessage("Hi"), answer, result]).response_metadata
        total = reduce(operator.add, asking.stream("Hi"))
        assert [one["args"] for one in total.tool_calls] == [call["args"]]

    @check(f"{name}: with_structured_output", "responses" if model is responses else "json schema")
    def structured(model: ChatOpenAI = model) -> None:
        assert isinstance(model.with_structured_output(City, method="json_schema").invoke("Hi"), City)


@check("ChatOpenAI: with_structured_output by a function", "tools")
def by_function() -> None:
    assert isinstance(roomy.with_structured_output(City, method="function_calling").invoke("Hi"), City)


@check("ChatOpenAI: JSON mode", "json object")
def json_mode() -> None:
    inclined = ChatOpenAI(**COMMON, max_tokens=80, logit_bias=brace_bias())
    assert inclined.with_structured_output(None, method="json_mode").invoke("Answer in JSON.") == {}


@check("ChatOpenAI over /v1/responses: invoke and stream", "responses")
def over_responses() -> None:
    whole = responses.invoke("Hi")
    assert whole.text
    assert "".join(chunk.text for chunk in responses.stream("Hi")) == whole.text


leave()
