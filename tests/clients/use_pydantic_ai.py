"""pydantic-ai: agents over all three APIs, with tools, outputs of a class, and streams."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, ModelSettings, NativeOutput, PromptedOutput, RunContext, ToolOutput
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles.anthropic import AnthropicModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from report import BASE, MODEL, URL, brace_bias, check, leave

provider = OpenAIProvider(base_url=BASE, api_key="none")
chats = OpenAIChatModel(MODEL, provider=provider)
responses = OpenAIResponsesModel(MODEL, provider=provider)
able = AnthropicModelProfile(supports_json_schema_output=True)  # which pydantic-ai believes of Claude only
messages = AnthropicModel(MODEL, provider=AnthropicProvider(base_url=URL, api_key="none"), profile=able)
SETTINGS = ModelSettings(temperature=0, max_tokens=60)


class Weather(BaseModel, extra="forbid"):
    """The weather of a city."""

    city: Literal["Paris", "Rome"]
    sunny: bool


def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


for model, api, texts, streams, tools, schemas in (
    (chats, "chat", "chat", "stream", "tools", "json schema"),
    (responses, "responses", *["responses"] * 4),
    (messages, "messages", *["messages"] * 4),
):

    def agent(model: object = model, **options: object) -> Agent:
        """An agent of one API."""
        return Agent(model, **{"instructions": "Be brief.", "model_settings": SETTINGS, "retries": 0} | options)

    @check(f"{api}: a run, and a second one with its history", texts)
    def whole(agent: type[Agent] = agent) -> None:
        first = agent().run_sync("Hi")
        assert first.output
        second = agent().run_sync("Thanks", message_history=first.all_messages())
        assert second.usage.input_tokens > first.usage.input_tokens

    @check(f"{api}: a streamed run says the same", streams)
    def streamed(agent: type[Agent] = agent) -> None:
        async def deltas() -> str:
            async with agent().run_stream("Hi") as result:
                return "".join([piece async for piece in result.stream_text(delta=True)])

        assert asyncio.run(deltas()) == agent().run_sync("Hi").output

    @check(f"{api}: ToolOutput, an object by a required call", tools)
    def by_tool(agent: type[Agent] = agent) -> None:
        assert isinstance(agent(output_type=ToolOutput(Weather)).run_sync("Hi").output, Weather)

    @check(f"{api}: a tool is called and its result sent", tools)
    def function(agent: type[Agent] = agent) -> None:
        def settings(context: RunContext) -> ModelSettings:
            return SETTINGS | {"tool_choice": "required"} if context.run_step == 1 else SETTINGS

        found = agent(tools=[weather], model_settings=settings).run_sync("How is the weather?").all_messages()
        results = [part.content for message in found for part in message.parts if isinstance(part, ToolReturnPart)]
        assert results
        assert set(results) <= {"Sunny in Paris.", "Sunny in Rome."}
        assert found[-1].kind == "response"  # the model read the result

    @check(f"{api}: NativeOutput, an object by a schema", schemas)
    def native(agent: type[Agent] = agent) -> None:
        assert isinstance(agent(output_type=NativeOutput(Weather)).run_sync("Hi").output, Weather)


class Anything(BaseModel, extra="allow"):
    """Any object."""


@check("chat: PromptedOutput, an object in JSON mode", "json object")
def json_object() -> None:
    settings = SETTINGS | {"logit_bias": brace_bias()}
    agent = Agent(chats, model_settings=settings, output_type=PromptedOutput(Anything), retries=0)
    assert agent.run_sync("Hi").output == Anything()


leave()
