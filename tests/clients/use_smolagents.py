"""smolagents: its model, and agents that call tools or write code in a schema."""

from __future__ import annotations

import json
import logging

from report import BASE, MODEL, brace_bias, check, leave
from smolagents import ActionStep, CodeAgent, OpenAIModel, Tool, ToolCallingAgent
from smolagents.models import ChatMessage, MessageRole, agglomerate_stream_deltas

logging.disable(logging.CRITICAL)
HI = [ChatMessage(role=MessageRole.USER, content=[{"type": "text", "text": "Hi"}])]
SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"], "additionalProperties": False}
PROMPTS = {  # the agents' own are longer than the context of the bundled model
    "system_prompt": "Call a tool.",
    "planning": {"initial_plan": "", "update_plan_pre_messages": "", "update_plan_post_messages": ""},
    "managed_agent": {"task": "", "report": ""},
    "final_answer": {"pre_messages": "Answer.", "post_messages": "Answer the task."},
}
asked: list[str] = []


class Weather(Tool):
    """The weather of a city."""

    name = "weather"
    description = "The weather of a city."
    inputs = {"city": {"type": "string", "description": "The city.", "enum": ["Paris", "Rome"]}}  # noqa: RUF012
    output_type = "string"

    def forward(self, city: str) -> str:
        """The weather."""
        asked.append(city)
        return "Sunny."


def model(**options: object) -> OpenAIModel:
    """The served model, greedy."""
    return OpenAIModel(MODEL, api_base=BASE, api_key="none", **{"temperature": 0, "max_tokens": 80} | options)


@check("OpenAIModel: a message with counts", "chat")
def chat() -> None:
    answer = model().generate(HI)
    assert answer.content
    assert answer.token_usage.output_tokens > 0


@check("OpenAIModel: a stream says the same", "stream")
def streamed() -> None:
    gathered = agglomerate_stream_deltas(list(model().generate_stream(HI)))
    whole = model().generate(HI)
    assert gathered.content == whole.content
    assert gathered.token_usage.output_tokens == whole.token_usage.output_tokens


for stream in (False, True):

    @check(f"ToolCallingAgent calls a tool and sends its result{', streamed' * stream}", "tools")
    def agent(stream: bool = stream) -> None:
        asked.clear()
        ours = ToolCallingAgent(
            [Weather()], model(), prompt_templates=PROMPTS, max_steps=2, stream_outputs=stream, verbosity_level=0
        )
        ours.run("How is the weather?")
        calls = [call for step in ours.memory.steps if isinstance(step, ActionStep) for call in step.tool_calls or []]
        assert {call.name for call in calls} <= {"weather", "final_answer"}
        assert [call.arguments["city"] for call in calls if call.name == "weather"] == asked != []


@check("OpenAIModel: an answer in a schema", "json schema")
def schema() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "sure", "schema": SCHEMA, "strict": True}}
    assert isinstance(json.loads(model().generate(HI, response_format=form).content)["sure"], bool)


@check("CodeAgent with structured outputs gets code", "json schema")
def code() -> None:
    ours = CodeAgent(
        [],
        model(max_tokens=200),
        prompt_templates=PROMPTS,
        max_steps=1,
        use_structured_outputs_internally=True,
        verbosity_level=0,
    )
    ours.run("Say hi.")
    step = next(step for step in ours.memory.steps if isinstance(step, ActionStep))
    assert step.model_output.lstrip("{ \n").startswith('"thought"'), step.model_output


@check("OpenAIModel: a JSON object", "json object")
def json_object() -> None:
    answer = model(logit_bias=brace_bias()).generate(HI, response_format={"type": "json_object"})
    assert json.loads(answer.content) == {}


leave()
