"""What each form's parser makes of answers, however they are cut."""

from __future__ import annotations

import json

import pytest

from orcinus.text.tools import FORMS
from orcinus.text.tools.tool_call import Tool
from tests.text.tools.parsed import TOOLS, Parsed, cuts, parse

CITY = '{"city": "Pa\\"ris"}'
CODER = "<tool_call>\n<function=get_weather>\n{}</function>\n</tool_call>"


def coder(**values: str) -> str:
    return CODER.format("".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in values.items()))


CASES: list[tuple[str, str, str, list[tuple[str, str]]]] = [  # form, text, content, calls
    # Hermes: white space between mark and object is free; that around the block is the template's
    ("hermes", f'<tool_call>\n{{"name": "f", "arguments": {CITY}}}\n</tool_call>', "", [("f", CITY)]),
    ("hermes", '<tool_call>{"name":"f","arguments":{}}</tool_call>', "", [("f", "{}")]),
    (
        "hermes",
        'Look:\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>\n',
        "Look:",
        [("f", '{"a": 1}'), ("g", "{}")],
    ),
    ("hermes", 'A\n\n<tool_call>{"name": "f"}</tool_call>\n\nB', "A\n\n\nB", [("f", "{}")]),
    ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "f", "id": 7}</tool_call>', "", [("f", '{"a": 1}')]),
    ("hermes", '<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [("f", "{}")]),
    ("hermes", '<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', "", [("f", '{"a": 1}')]),
    ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("f", '{"a": 1}')]),
    ("hermes", '<tool_call>{"name": "f"}\n{"name": "g"}</tool_call>', "", [("f", "{}"), ("g", "{}")]),
    (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>!',
        "!",
        [("f", '{"a": "</tool_call>"}')],
    ),
    # the model forgets: a bracket, the closing mark
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>!', "!", [("f", '{"a": 1}')]),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": [1</tool_call>!', "!", [("f", '{"a": [1')]),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1}} Done', " Done", [("f", '{"a": 1}')]),
    # no calls: the text stays as it is
    ("hermes", " \n", " \n", []),
    ("hermes", "a </tool_call>\n", "a </tool_call>\n", []),
    ("hermes", "<tool_call> is a mark.\n", "<tool_call> is a mark.\n", []),
    (
        "hermes",
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        [],
    ),
    ("hermes", '<tool_call>{"name": "f", "arguments": [1]}', '<tool_call>{"name": "f", "arguments": [1]}', []),
    ("hermes", '<tool_call>{"name": "f", "mood": 1}', '<tool_call>{"name": "f", "mood": 1}', []),
    ("hermes", '<tool_call>{"name": "\\ud800", "arguments": {}}', '<tool_call>{"name": "\\ud800", "arguments": {}}', []),
    ("hermes", '<tool_call><tool_call>{"name": "f"}</tool_call>', "<tool_call>", [("f", "{}")]),
    ("hermes", "a <tool_ca", "a <tool_ca", []),
    # max_tokens
    ("hermes", '<tool_call>\n{"name": "f", "arguments": {"a": "b', "", [("f", '{"a": "b')]),
    ("hermes", '<tool_call>\n{"name": "f", "argum', '<tool_call>\n{"name": "f", "argum', []),
    # Qwen3-Coder
    ("qwen3_coder", coder(city="Paris"), "", [("get_weather", '{"city": "Paris"}')]),
    ("qwen3_coder", f"Look:\n{coder(city='12', days='12')}\n", "Look:", [("get_weather", '{"city": "12", "days": 12}')]),
    ("qwen3_coder", coder(), "", [("get_weather", "{}")]),
    ("qwen3_coder", coder(city="\na\n\n"), "", [("get_weather", '{"city": "\\na\\n\\n"}')]),
    ("qwen3_coder", coder(city='<b>"\\'), "", [("get_weather", '{"city": "<b>\\"\\\\"}')]),
    ("qwen3_coder", coder(wind="True", places="['a', 'b']"), "", [("get_weather", '{"wind": true, "places": ["a", "b"]}')]),
    ("qwen3_coder", coder(wind="false", places='["a"]'), "", [("get_weather", '{"wind": false, "places": ["a"]}')]),
    ("qwen3_coder", coder(days="soon", places="5"), "", [("get_weather", '{"days": "soon", "places": "5"}')]),
    ("qwen3_coder", coder(options="{'a': None}", other="x"), "", [("get_weather", '{"options": {"a": null}, "other": "x"}')]),
    ("qwen3_coder", coder(options="1e3", other="NaN"), "", [("get_weather", '{"options": 1e3, "other": "NaN"}')]),
    ("qwen3_coder", coder(options='"a"', other="[1,"), "", [("get_weather", '{"options": "a", "other": "[1,"}')]),
    ("qwen3_coder", CODER.format("<parameter=city>a</parameter>"), "", [("get_weather", '{"city": "a"}')]),
    ("qwen3_coder", "<tool_call><function=f><parameter=x>5</parameter></function></tool_call>", "", [("f", '{"x": 5}')]),
    ("qwen3_coder", f"{coder(city='a')}\n{coder(city='b')}", "", [("get_weather", f'{{"city": "{c}"}}') for c in "ab"]),
    ("qwen3_coder", "<function=now>\n</function>\n</tool_call>", "", [("now", "{}")]),
    ("qwen3_coder", "<tool_call><function=now></tool_call>.", ".", [("now", "{}")]),
    (
        "qwen3_coder",
        "<tool_call><function=now></function><function=f></function></tool_call>",
        "",
        [("now", "{}"), ("f", "{}")],
    ),
    ("qwen3_coder", "<function=unknown></function>", "<function=unknown></function>", []),
    ("qwen3_coder", "<tool_call>\n<function= >", "<tool_call>\n<function= >", []),
    ("qwen3_coder", "<tool_call><function=now>why</function>", "why</function>", [("now", "")]),
    ("qwen3_coder", "<tool_call><function=get_weather><parameter=city>\na\n", "", [("get_weather", '{"city": "a\\n')]),
    ("qwen3_coder", "<tool_call><function=get_weather><parameter=days>1", "", [("get_weather", '{"days": 1')]),
    ("qwen3_coder", "<tool_call><function=get_weather><parameter=da", "", [("get_weather", "<parameter=da")]),
    # Llama 3
    ("llama3_json", '{"name": "f", "parameters": {"a": 1}}', "", [("f", '{"a": 1}')]),
    ("llama3_json", '<|python_tag|>{"type": "function", "name": "f", "parameters": {}}', "", [("f", "{}")]),
    ("llama3_json", ' {"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', "", [("f", "{}"), ("g", "{}")]),
    ("llama3_json", '{"name": "f", "arguments": {}}\n{"name": "g", "parameters": {}}', "", [("f", "{}"), ("g", "{}")]),
    ("llama3_json", 'Look:\n{"name": "now", "parameters": {}}', "Look:\n", [("now", "{}")]),
    ("llama3_json", 'Look:\n{"name": "f", "parameters": {}}', 'Look:\n{"name": "f", "parameters": {}}', []),
    ("llama3_json", 'Look: {"name": "now", "parameters": {}}', 'Look: {"name": "now", "parameters": {}}', []),
    ("llama3_json", 'Look: <|python_tag|>{"name": "f", "parameters": {}}', "Look: ", [("f", "{}")]),
    ("llama3_json", '{"parameters": {}, "name": "f"}', '{"parameters": {}, "name": "f"}', []),
    ("llama3_json", '{"name": "Bob"}', '{"name": "Bob"}', []),
    ("llama3_json", '{"a": {"name": "now", "parameters": {}}}', '{"a": {"name": "now", "parameters": {}}}', []),
    ("llama3_json", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    ("llama3_json", '{"name": "f", "parameters": {"a": "b', "", [("f", '{"a": "b')]),
    # Mistral
    ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {"a": [1]}}]', "", [("f", '{"a": [1]}')]),
    (
        "mistral",
        '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}, "id": "x"}] .',
        " .",
        [("f", "{}"), ("g", "{}")],
    ),
    ("mistral", '[TOOL_CALLS]{"name": "f", "arguments": {}}', "", [("f", "{}")]),
    ("mistral", 'Look.[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}', "Look.", [("f", '{"a": 1}'), ("g", "{}")]),
    ("mistral", "[TOOL_CALLS]f{}", "", [("f", "{}")]),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a', "", [("f", '{"a')]),
    ("mistral", "[TOOL_CALLS] are marks, [TOOL_CALLS][]", "[TOOL_CALLS] are marks, [TOOL_CALLS][]", []),
    # pythonic
    (
        "pythonic",
        '[get_weather(city="Paris", days=3), now()]',
        "",
        [("get_weather", '{"city": "Paris", "days": 3}'), ("now", "{}")],
    ),
    ("pythonic", "[get_weather('Paris', 3)]", "", [("get_weather", '{"city": "Paris", "days": 3}')]),
    ("pythonic", "[get_weather(city=12, days=12)]", "", [("get_weather", '{"city": "12", "days": 12}')]),
    (
        "pythonic",
        "[get_weather(city=Paris, wind=True, days=None,),]",
        "",
        [("get_weather", '{"city": "Paris", "wind": true, "days": null}')],
    ),
    (
        "pythonic",
        "[get_weather(options={'a': (1, [2.5, -1e3]), 5: {}})]",
        "",
        [("get_weather", '{"options": {"a": [1, [2.5, -1e3]], "5": {}}}')],
    ),
    (
        "pythonic",
        r"""[get_weather(city='it\'s \x41\u00e9\101\q\n')]""",
        "",
        [("get_weather", r'{"city": "it' "'" r's A\u00e9A\\q\n"}')],
    ),
    ("pythonic", '[get_weather(city="""a"b\n""")]', "", [("get_weather", '{"city": "a\\"b\\n"}')]),
    (
        "pythonic",
        "[get_weather(options=[1_000, 0x1F, .5, true, x])]",
        "",
        [("get_weather", '{"options": [1000, 31, 0.5, true, "x"]}')],
    ),
    ("pythonic", "Look:\n[now()]\n", "Look:\n", [("now", "{}")]),
    ("pythonic", "<|python_start|>[f(a=1)]<|python_end|>", "", [("f", '{"a": 1}')]),
    ("pythonic", "<|tool_call_start|>[f(a=1)]<|tool_call_end|>.", ".", [("f", '{"a": 1}')]),
    ("pythonic", "[f(a=1)]", "[f(a=1)]", []),
    ("pythonic", "<|python_start|>[]<|python_end|>", "<|python_start|>[]<|python_end|>", []),
    ("pythonic", "[1, 2] and [now]", "[1, 2] and [now]", []),
    ("pythonic", "see [now()]", "see [now()]", []),
    ("pythonic", "[get_weather(city=str(5))]", "(5))]", [("get_weather", '{"city": "str"')]),
    ("pythonic", '[get_weather(city="Par', "", [("get_weather", '{"city": "Par')]),
    ("pythonic", "[get_weather(city='a', da", "", [("get_weather", '{"city": "a" da')]),
    ("pythonic", "[get_weather(days=1", "", [("get_weather", '{"days": 1')]),
]


@pytest.mark.parametrize(("form", "text", "content", "calls"), CASES)
def test_answers(form: str, text: str, content: str, calls: list[tuple[str, str]]) -> None:
    for pieces in cuts(text):
        assert parse(FORMS[form], pieces) == Parsed(content, calls), pieces


def test_arguments_are_shown_before_they_end() -> None:
    begun = {
        "hermes": ('<tool_call>{"name": "f", "arguments": {"a": "b', '{"a": "b'),
        "llama3_json": ('{"name": "f", "parameters": {"a": "b', '{"a": "b'),
        "mistral": ('[TOOL_CALLS][{"name": "f", "arguments": {"a": "b', '{"a": "b'),
        "qwen3_coder": ("<tool_call><function=get_weather><parameter=city>b", '{"city": "b'),
        "pythonic": ('[get_weather(city="b', '{"city": "b'),
    }
    for form, (text, arguments) in begun.items():
        _, deltas = FORMS[form].parser(TOOLS).add(text)
        assert "".join(delta.arguments for delta in deltas) == arguments


def test_text_is_held_only_while_it_may_begin_a_call() -> None:
    for form, held, rest in [("hermes", "a<tool_c", "b"), ("mistral", "a[TOOL", "b"), ("qwen3_coder", "a<func", "b")]:
        parser = FORMS[form].parser(TOOLS)
        assert parser.add(held) == ("a", [])
        assert parser.add(rest) == (held[1:] + rest, [])


def test_ids_are_random_and_of_the_length_that_templates_want() -> None:
    hermes = parse(FORMS["hermes"], ['<tool_call>{"name": "f"}</tool_call>' * 2])
    assert all(len(one) == 29 and one.startswith("call_") and one[5:].isalnum() for one in hermes.ids)
    assert len(set(hermes.ids)) == 2
    mistral = parse(FORMS["mistral"], ['[TOOL_CALLS][{"name": "f"}]'])
    assert [len(one) for one in mistral.ids] == [9]
    assert mistral.ids[0].isalnum()
    own = parse(FORMS["mistral"], ["[TOOL_CALLS]f[CALL_ID]abc123XYZ[ARGS]{}"])
    assert own == Parsed("", [("f", "{}")])
    assert own.ids == ["abc123XYZ"]


def test_values_nest_as_deeply_as_json_may() -> None:
    text = "[get_weather(options=%s)]"
    deepest = "[" * 64 + "]" * 64
    assert parse(FORMS["pythonic"], [text % deepest]).calls == [("get_weather", f'{{"options": {deepest}}}')]
    deeper = parse(FORMS["pythonic"], [text % f"[{deepest}]"])
    assert deeper.calls == [("get_weather", '{"options": ' + "[" * 64)]
    assert deeper.content == "[" + "]" * 65 + ")]"


def test_numbers_of_any_length_stay_as_they_are() -> None:
    digits = "9" * 5000
    calls = parse(FORMS["qwen3_coder"], [coder(days=digits)]).calls
    assert calls == [("get_weather", f'{{"days": {digits}}}')]


@pytest.mark.parametrize("schema", [{"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}])
def test_a_nullable_string_stays_a_string_unless_it_is_null(schema: dict[str, object]) -> None:
    tool = Tool("f", None, {"properties": {"x": schema}})
    for text, value in {"12": "12", "null": None, "None": None, "[1]": "[1]"}.items():
        written = f"<tool_call><function=f><parameter=x>\n{text}\n</parameter></function></tool_call>"
        [(_, arguments)] = parse(FORMS["qwen3_coder"], [written], [tool]).calls
        assert json.loads(arguments) == {"x": value}


def test_references_in_schemas_are_followed() -> None:
    schema = {"properties": {"x": {"$ref": "#/$defs/y"}}, "$defs": {"y": {"allOf": [{"enum": [1, 2]}]}}}
    written = "<tool_call><function=f><parameter=x>\n2\n</parameter></function></tool_call>"
    assert parse(FORMS["qwen3_coder"], [written], [Tool("f", None, schema)]).calls == [("f", '{"x": 2}')]
    circular = {"properties": {"x": {"$ref": "#/properties/x"}}}
    assert parse(FORMS["qwen3_coder"], [written], [Tool("f", None, circular)]).calls == [("f", '{"x": 2}')]
