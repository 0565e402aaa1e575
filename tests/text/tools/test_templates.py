"""Forms found from templates; calls that templates write into a history are parsed as the same calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orcinus.errors import ConfigError
from orcinus.text.chat_template import TemplateRenderer
from orcinus.text.tools import FORMS
from orcinus.text.tools.mistral import Mistral
from orcinus.text.tools.pythonic import Pythonic
from orcinus.text.tools.template_support import find_form, knows_tools, template_call
from orcinus.text.tools.tool_call import ToolChoice, ToolForm
from orcinus.tiny import MODEL_DIR
from tests.text.tools import templates
from tests.text.tools.constrained import accepts, token_id
from tests.text.tools.parsed import TOOLS, Parsed, parse

LFM_2 = Pythonic(mark="<|tool_call_start|>")
FOUND: list[tuple[str, ToolForm, int]] = [  # template, its form, how many calls it can write at once
    ("QWEN_3", FORMS["hermes"], 2),
    ("QWEN_3_CODER", FORMS["qwen3_coder"], 2),
    ("LLAMA_3_1", FORMS["llama3_json"], 1),
    ("MISTRAL_V3", Mistral(), 2),
    ("MISTRAL_V13", Mistral(named=True), 2),
    ("LFM_2", LFM_2, 2),
]
ARGUMENTS: list[dict[str, Any]] = [
    {"city": 'Zürich "12"\n<b>\'s', "days": -2, "wind": True, "places": ["a", "1"]},
    {"city": "12", "wind": False, "options": {"a": [1, None]}},
]
END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "</s>")


@pytest.fixture(scope="module")
def renderer() -> TemplateRenderer:
    return TemplateRenderer()


@pytest.mark.parametrize(("template", "form"), [(template, form) for template, form, _ in FOUND])
def test_a_template_tells_its_form(template: str, form: ToolForm) -> None:
    assert find_form(getattr(templates, template)) == form


def test_without_a_known_mark_it_is_hermes() -> None:
    assert find_form(None) == find_form(templates.NO_TOOLS) == FORMS["hermes"]
    assert find_form('{{ \'<|start_header_id|>\' }}{"name": function name, "parameters": …}') == FORMS["llama3_json"]
    assert find_form("Write [func_name1(params_name1=params_value1), func_name2(params)].") == FORMS["pythonic"]


def test_a_user_may_choose_the_form() -> None:
    assert find_form(templates.QWEN_3, "llama3_json") == FORMS["llama3_json"]
    assert find_form(templates.MISTRAL_V13, "mistral") == Mistral(named=True)
    assert find_form(templates.QWEN_3, "mistral") == Mistral()
    with pytest.raises(ConfigError, match="no tool-call form 'hermes2': choose one of hermes, qwen3_coder, llama3_json"):
        find_form(None, "hermes2")


@pytest.mark.parametrize(("template", "form", "most"), FOUND)
def test_calls_in_a_history_parse_to_the_same_calls(
    renderer: TemplateRenderer, template: str, form: ToolForm, most: int
) -> None:
    written = ARGUMENTS[:most]
    calls = [
        {"id": f"{number:09}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
        for number, arguments in enumerate(written)
    ]
    messages = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": calls}]
    source = getattr(templates, template)
    variables = {"tools": [{"type": "function", "function": {"name": "get_weather"}}], "bos_token": "<s>", "eos_token": "</s>"}
    prompt = renderer.render(source, messages[:1], add_generation_prompt=True, **variables)
    text = renderer.render(source, messages, add_generation_prompt=False, **variables)
    answer = _between(prompt, text)
    found = parse(form, [answer])
    assert found.content == ""
    assert [(name, json.loads(arguments)) for name, arguments in found.calls] == [("get_weather", one) for one in written]
    if template != "MISTRAL_V3":  # its history has ids, which models do not write
        lark = form.grammar(TOOLS[:1], ToolChoice("required"), parallel=True, token_id=token_id(()))
        assert lark is not None
        assert accepts(lark, answer)


def _between(prompt: str, text: str) -> str:
    """The assistant's turn."""
    begin = len(prompt) if text.startswith(prompt) else len(prompt.rstrip("\n")) + 1
    return min((text[begin:].partition(end)[0] for end in END_OF_TURN), key=len)


def test_content_beside_calls_returns_to_the_same_text(renderer: TemplateRenderer) -> None:
    """The prefix cache hits: what the model wrote is what the template writes of what was parsed."""
    calls_text = [
        f'<tool_call>\n{{"name": {name}}}\n</tool_call>' for name in ('"now", "arguments": {"a":1}', '"f", "arguments": {}')
    ]
    answer = "\n".join(("Let me see.\n", *calls_text))
    found = parse(FORMS["hermes"], [answer])
    assert found == Parsed("Let me see.\n", [("now", '{"a":1}'), ("f", "{}")])
    calls = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in found.calls]
    asked = [{"role": "user", "content": "Time?"}]
    prompt = renderer.render(templates.QWEN_3, asked, add_generation_prompt=True)
    history = [*asked, {"role": "assistant", "content": found.content, "tool_calls": calls}, {"role": "tool", "content": "12"}]
    assert renderer.render(templates.QWEN_3, history).startswith(f"{prompt}{answer}<|im_end|>\n")


def test_which_templates_know_tools() -> None:
    assert all(knows_tools(getattr(templates, template)) for template, _, _ in FOUND)
    assert not knows_tools(templates.NO_TOOLS)
    assert not knows_tools(None)
    assert not knows_tools((MODEL_DIR / "chat_template.jinja").read_text(encoding="utf-8"))
    assert not knows_tools("{# tools #}{{ 'tools' }}{{ messages[0].tools }}{{ x(tools=1) }}{% set tools = 1 %}")
    assert not knows_tools("{% if tools")
    assert not knows_tools("{{ " + "(" * 10_000)


def test_a_template_is_not_evaluated_to_know_it() -> None:
    assert not knows_tools("{{ 'a' * 10 ** 12 }}")  # a constant, which a compiler would compute


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ({"a": 1}, {"a": 1}),
        ("{a}", "{a}"),
        ('{"a":' * 100_000, '{"a":' * 100_000),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_templates_get_parsed_arguments_where_they_are_json(arguments: Any, parsed: Any) -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    assert template_call(call) == {"id": "1", "function": {"name": "f", "arguments": parsed}}
