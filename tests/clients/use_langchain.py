"""langchain-openai: chats and the older completions, whole, streamed, in batches."""

from __future__ import annotations

import asyncio

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from report import BASE, MODEL, check, leave

COMMON = {"model": MODEL, "base_url": BASE, "api_key": "none", "temperature": 0, "max_retries": 0}
chat = ChatOpenAI(**COMMON, max_tokens=20, stream_usage=True)
text = OpenAI(**COMMON, max_tokens=12)


@check("ChatOpenAI: invoke, with counts")
def invoke() -> None:
    answer = chat.invoke("Hi")
    assert answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


@check("ChatOpenAI: stream says the same, with counts")
def stream() -> None:
    chunks = list(chat.stream("Hi"))
    whole = chat.invoke("Hi")
    assert "".join(chunk.content for chunk in chunks) == whole.content
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


@check("ChatOpenAI: a conversation with a system message and parts")
def conversation() -> None:
    parts = HumanMessage([{"type": "text", "text": "Tell me a story."}])
    assert chat.invoke([SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello!"), parts]).content


@check("ChatOpenAI: a batch, and async")
def batch() -> None:
    answers = chat.batch(["Hi", "Hello", "Hi"])
    assert answers[0].content == answers[2].content
    assert asyncio.run(chat.ainvoke("Hi")).content == answers[0].content


@check("ChatOpenAI: logprobs and stop")
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


leave()
