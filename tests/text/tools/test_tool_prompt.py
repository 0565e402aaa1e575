"""Tools in the text of a conversation, for templates that know none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orcinus.text.chat_template import TemplateRenderer
from orcinus.text.tools import FORMS
from orcinus.text.tools.tool_call import Tool
from orcinus.text.tools.tool_prompt import system_text, without_template
from tests.text.tools import templates
from tests.text.tools.parsed import NOW, TOOLS, WEATHER, parse

USER = {"role": "user", "content": "Weather in Zürich?"}
CALL = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Zürich"}'}}
WRITTEN = '<tool_call>\n{"name": "get_weather", "arguments": {"city":"Zürich"}}\n</tool_call>'


def assistant(content: str | None, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "1", "content": content}


def test_tools_stand_in_a_system_message() -> None:
    prompt, user = without_template([USER], TOOLS)
    assert user == USER
    assert prompt == {"role": "system", "content": system_text(TOOLS)}
    listed = prompt["content"].split("<tools>\n")[1].removesuffix("\n</tools>").splitlines()
    assert [json.loads(line) for line in listed] == [
        {"name": "get_weather", "description": "Weather of a city.", "parameters": WEATHER.parameters},
        {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
    ]


def test_the_example_in_the_system_text_is_a_call() -> None:
    assert parse(FORMS["hermes"], [system_text([NOW])]).calls == [("function_name", '{"argument": "value"}')]


def test_the_page_has_the_system_text() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tools.md").read_text(encoding="utf-8")
    city = {"type": "object", "properties": {"city": {"type": "string"}}}
    assert f"```text\n{system_text([Tool('get_weather', 'Weather of a city.', city)])}\n```" in page


def test_a_system_message_keeps_its_text() -> None:
    for role in ("system", "developer"):
        first, *_ = without_template([{"role": role, "content": "Be brief."}, USER], TOOLS)
        assert first == {"role": role, "content": f"Be brief.\n\n{system_text(TOOLS)}"}


def test_calls_are_content_as_the_model_wrote_them() -> None:
    assert without_template([assistant(None, CALL)], ()) == [{"role": "assistant", "content": WRITTEN}]
    assert without_template([assistant("See:", CALL, CALL)], ())[0]["content"] == f"See:\n{WRITTEN}\n{WRITTEN}"
    objects = {"function": {"name": "f", "arguments": {"a": "ü"}}}
    assert without_template([assistant("", objects)], ())[0]["content"] == (
        '<tool_call>\n{"name": "f", "arguments": {"a": "ü"}}\n</tool_call>'
    )
    empty = {"function": {"name": 'say "hi"', "arguments": ""}}
    found = parse(FORMS["hermes"], [without_template([assistant("", empty)], ())[0]["content"]])
    assert found.calls == [('say "hi"', "{}")]


def test_results_are_user_messages_and_those_in_a_row_are_one() -> None:
    assert without_template([result("5"), result("6"), USER, result("7")], ()) == [
        {"role": "user", "content": "<tool_response>\n5\n</tool_response>\n<tool_response>\n6\n</tool_response>"},
        USER,
        {"role": "user", "content": "<tool_response>\n7\n</tool_response>"},
    ]


def test_the_given_messages_stay_as_they_are() -> None:
    messages = [{"role": "system", "content": "Be brief."}, USER, assistant("x", CALL), result("5"), result("6")]
    before = json.dumps(messages)
    without_template(messages, TOOLS)
    assert json.dumps(messages) == before


def test_the_text_of_a_turn_begins_with_that_of_the_turn_before() -> None:
    """So the prefix cache hits, the model's own answer included."""
    renderer, prompt, answer = TemplateRenderer(), "", ""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
    turns = [
        ([USER], f"Let me see.\n\n{WRITTEN}\n{WRITTEN}"),
        ([result("5"), result("6")], WRITTEN),
        ([result("7")], "It is 7."),
        ([{"role": "user", "content": "Thanks."}], "You are welcome.\n"),
    ]
    for asked, written in turns:
        messages += asked
        text = renderer.render(templates.NO_TOOLS, without_template(messages, TOOLS), add_generation_prompt=True)
        assert text.startswith(prompt + answer)
        prompt, answer = text, f"{written}<|im_end|>\n"
        found = parse(FORMS["hermes"], [written])
        calls = [{"function": {"name": name, "arguments": arguments}} for name, arguments in found.calls]
        messages.append({"role": "assistant", "content": found.content, **({"tool_calls": calls} if calls else {})})
