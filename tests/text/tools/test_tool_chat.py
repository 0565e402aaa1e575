"""`LLM.chat` with tools: definitions and choices in OpenAI's form, calls in the outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orcinus import LLM, RequestOutput, SamplingParams, StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text.tools.tool_call import ToolCallDelta, ToolChoice
from orcinus.text.tools.tool_chat import ToolInvocation, choice_from, joined_calls, tools_from
from tests.examples import fewer

CITIES = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": CITIES}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
TEAPOT = {"type": "function", "function": {"name": "brew", "parameters": {"type": "teapot"}}}
QUESTION = [{"role": "user", "content": "How is the weather?"}]
NAMED = {"type": "function", "function": {"name": "weather"}}
GREEDY = SamplingParams(temperature=0, max_tokens=80)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(dtype="float32") as llm:
        yield llm


def only(outputs: list[RequestOutput]) -> RequestOutput:
    assert len(outputs) == 1
    return outputs[0]


def test_a_named_call_follows_its_schema(llm: LLM) -> None:
    output = only(llm.chat(QUESTION, GREEDY, tools=[CLOCK, WEATHER], tool_choice=NAMED))
    (call,) = output.tool_calls
    assert (call.name, output.text, output.finish_reason) == ("weather", "", "tool_calls")
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    assert call.id.startswith("call_")
    assert output.outputs[0].tool_calls == output.tool_calls


def test_a_required_call_is_of_any_tool(llm: LLM) -> None:
    output = only(llm.chat(QUESTION, GREEDY, tools=[CLOCK, WEATHER], tool_choice="required"))
    assert output.tool_calls
    assert {call.name for call in output.tool_calls} <= {"clock", "weather"}


def test_calls_and_results_are_history(llm: LLM) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    history = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It snows."},
    ]
    output = only(llm.chat(history, GREEDY, tools=[WEATHER]))
    assert llm.tokenizer is not None
    prompt = llm.tokenizer.decode(output.prompt_token_ids, skip_special_tokens=True)
    assert '"description": "The weather."' in prompt
    assert re.search(r'<tool_call>\n\{"name": "weather", "arguments": \{"city": "Oslo"\}\}\n</tool_call>', prompt)
    assert "It snows." in prompt
    assert (output.finish_reason in ("stop", "length"), output.tool_calls) == (True, ())
    without = llm.tokenizer.decode(only(llm.chat(history, GREEDY)).prompt_token_ids, skip_special_tokens=True)
    assert "The weather." not in without
    assert "It snows." in without


def test_without_a_choice_of_calls_the_model_sees_no_tools(llm: LLM) -> None:
    hidden = llm.encode_chat(QUESTION, [WEATHER], "none")
    assert hidden == llm.encode_chat(QUESTION) != llm.encode_chat(QUESTION, [WEATHER])


def test_streams_carry_deltas_of_calls(llm: LLM) -> None:
    deltas = [one for delta in llm.stream(llm.encode_chat(QUESTION, [WEATHER], NAMED), GREEDY) for one in delta.tool_calls]
    whole = only(llm.chat(QUESTION, GREEDY, tools=[WEATHER], tool_choice=NAMED))
    assert [(call.name, call.arguments) for call in joined_calls(deltas)] == [
        (call.name, call.arguments) for call in whole.tool_calls
    ]
    assert len(deltas) > 2


@pytest.mark.parametrize(
    ("arguments", "message", "field"),
    [
        ({"tools": "weather"}, "tools must be a list of definitions", "tools"),
        ({"tools": ["weather"]}, r"tools\[0\] must be of the form", "tools"),
        ({"tools": [CLOCK, {"type": "custom", "function": {"name": "a"}}]}, r"tools\[1\] must be of the form", "tools"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, r"tools\[0\].function.name must be text", "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "description": 3}}]}, "description must be text", "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "must be a JSON Schema", "tools"),
        ({"tools": [CLOCK, TEAPOT]}, "the type must be 'object'", "tools[1].function.parameters"),
        ({"tools": [CLOCK, CLOCK]}, "'clock' is defined twice", "tools"),
        ({"tools": [CLOCK], "tool_choice": "always"}, "tool_choice must be auto, none, required or", "tool_choice"),
        ({"tools": [CLOCK], "tool_choice": NAMED}, "'weather' is none of the tools", "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice wants a call: give tools, too", "tool_choice"),
    ],
)
def test_a_mistake_is_named(llm: LLM, arguments: dict[str, Any], message: str, field: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        llm.chat(QUESTION, GREEDY, **arguments)
    assert caught.value.field == field


ANSWER = StructuredOutputs(json={"type": "object", "properties": {"sky": {"enum": ["blue", "grey"]}}, "required": ["sky"]})


def test_a_call_that_must_come_wins_over_the_form_of_the_answer(llm: LLM) -> None:
    output = only(llm.chat(QUESTION, replace(GREEDY, structured_outputs=ANSWER), tools=[WEATHER], tool_choice=NAMED))
    (call,) = output.tool_calls
    assert (call.name, list(json.loads(call.arguments))) == ("weather", ["city"])


@pytest.mark.parametrize("wanted", [ANSWER, StructuredOutputs(regex='\\{"sky": "(blue|grey)"}')], ids=["json", "regex"])
def test_with_auto_an_answer_is_calls_or_in_the_form_asked_for(llm: LLM, wanted: StructuredOutputs) -> None:
    assert llm.tokenizer is not None
    prompt = llm.encode_chat(QUESTION, [WEATHER])
    params = {"max_tokens": 80, "structured_outputs": wanted, "temperature": 1.0}
    answers = [only(llm.generate(prompt, SamplingParams(seed=seed, **params))) for seed in range(fewer(8))]
    for answer in answers:
        if answer.tool_calls:
            assert [call.name for call in answer.tool_calls] == ["weather"] * len(answer.tool_calls)
        else:
            assert json.loads(answer.text)["sky"] in ("blue", "grey")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (StructuredOutputs(grammar='start: "x"'), "grammar: a grammar cannot be combined with tools that may be called"),
        (StructuredOutputs(json={"items": {"uniqueItems": True}}), "json: #/items: 'uniqueItems' cannot be enforced"),
        (StructuredOutputs(json={"items": {"type": "teapot"}}), "json: #/items: Invalid type: teapot"),
        (StructuredOutputs(json=False), "json: the schema allows no answer"),
    ],
)
def test_a_form_that_cannot_stand_beside_calls_is_refused(llm: LLM, wanted: StructuredOutputs, reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as refused:
        llm.chat(QUESTION, replace(GREEDY, structured_outputs=wanted), tools=[WEATHER])
    assert refused.value.field == wanted.kind


def test_choices_have_openai_s_form() -> None:
    assert [choice_from(word) for word in ("auto", "none")] == [ToolChoice("auto"), ToolChoice("none")]
    assert choice_from(NAMED) == choice_from(ToolChoice("required", "weather")) == ToolChoice("required", "weather")


def test_tools_have_openai_s_form() -> None:
    (tool,) = tools_from([{"type": "function", "function": {**WEATHER["function"], "strict": True}}])  # type: ignore[dict-item]
    assert (tool.name, tool.description, tool.parameters, tool.strict) == ("weather", "The weather.", CITIES, True)


def test_calls_are_joined_by_their_index() -> None:
    deltas = [ToolCallDelta(1, "b", "g", "{"), ToolCallDelta(0, "a", "f", "[1"), ToolCallDelta(1, arguments="}")]
    assert joined_calls(deltas) == [ToolInvocation("a", "f", "[1"), ToolInvocation("b", "g", "{}")]
