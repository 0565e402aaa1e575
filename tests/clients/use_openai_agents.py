"""openai-agents: runs over `/v1/responses`, whole and streamed, with tools, sessions and structured output."""

from __future__ import annotations

import asyncio
from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    RunResult,
    SQLiteSession,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel
from report import BASE, MODEL, check, leave

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=BASE, api_key="none", max_retries=0)
set_default_openai_client(client, use_for_tracing=False)
SHORT = ModelSettings(temperature=0, max_tokens=30)
loop = asyncio.new_event_loop()  # of the client's connections
asked: list[str] = []


class Mood(BaseModel):
    """What an agent answers with."""

    mood: Literal["calm", "merry"]
    sure: bool


@function_tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city."""
    asked.append(city)
    return "Sunny."


def run(agent: Agent, question: str, **options: object) -> RunResult:
    """One run of an agent."""
    return loop.run_until_complete(Runner.run(agent, question, **options))


def agent(**options: object) -> Agent:
    """An agent of the served model."""
    return Agent(**{"name": "A", "instructions": "Be brief.", "model": MODEL, "model_settings": SHORT} | options)


@check("a run over /v1/responses", "responses")
def whole() -> None:
    found = run(agent(), "Hi")
    assert found.final_output
    assert found.context_wrapper.usage.input_tokens > 0


@check("a streamed run says the same", "stream")
def streamed() -> None:
    async def deltas() -> tuple[str, str]:
        result = Runner.run_streamed(agent(), "Hi")
        found = [event.data async for event in result.stream_events() if event.type == "raw_response_event"]
        return "".join(one.delta for one in found if one.type == "response.output_text.delta"), result.final_output

    text, final = loop.run_until_complete(deltas())
    assert text == final == run(agent(), "Hi").final_output


@check("a tool is called, and its output read", "tools")
def tool() -> None:
    asked.clear()
    settings = ModelSettings(temperature=0, max_tokens=60, tool_choice="required")
    found = run(agent(tools=[weather], model_settings=settings), "How is the weather in Rome?")
    assert asked
    assert set(asked) <= {"Paris", "Rome"}
    assert any(item.type == "tool_call_output_item" and item.output == "Sunny." for item in found.new_items)
    assert isinstance(found.final_output, str)


@check("structured output", "json schema")
def structured() -> None:
    settings = ModelSettings(temperature=0, max_tokens=60)
    assert isinstance(run(agent(output_type=Mood, model_settings=settings), "Hi").final_output, Mood)


@check("a session resends its history", "responses")
def session() -> None:
    kept = SQLiteSession("one")
    first = run(agent(), "Hi", session=kept)
    second = run(agent(), "Thanks", session=kept)
    assert second.raw_responses[0].usage.input_tokens > first.raw_responses[0].usage.total_tokens


@check("previous_response_id continues a run", "responses")
def previous() -> None:
    first = run(agent(), "Hi")
    second = run(agent(), "Thanks", previous_response_id=first.last_response_id)
    assert second.raw_responses[0].usage.input_tokens > first.raw_responses[0].usage.total_tokens


@check("a run over /v1/chat/completions, with a tool", "chat")
def chat() -> None:
    asked.clear()
    settings = ModelSettings(temperature=0, max_tokens=60, tool_choice="required")
    model = OpenAIChatCompletionsModel(MODEL, client)
    assert run(agent(model=model), "Hi").final_output
    found = run(agent(model=model, tools=[weather], model_settings=settings), "How is the weather in Rome?")
    assert asked
    assert any(item.type == "tool_call_output_item" and item.output == "Sunny." for item in found.new_items)


leave()
