"""What holds for any text and any cut: the same result, and every character exactly once."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.text.tools import FORMS
from orcinus.text.tools.tool_call import Tool, ToolForm
from tests.text.tools.parsed import Parsed, parse

TOOLS = (Tool("f", None, {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {}}}), Tool("g"))
MARKED = "☃"  # stands for a character that no other place has
COMMON = [MARKED, MARKED, " ", "\n", '"', ":", ",", "{", "}", "[", "]", "\\", "f", "g", '"a": ', "5", "null"]
FRAGMENTS = {
    "hermes": [
        "<tool_call>",
        "</tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {',
        '{"name": "g"',
        "}\n</tool_call>",
        "<tool",
    ],
    "qwen3_coder": [
        *("<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter=", "</parameter>", ">", "<"),
        *("<tool_call>\n<function=f>\n", "<parameter=a>\n", "<parameter=b>", "<parameter=c>", "\n</parameter>\n"),
    ],
    "llama3_json": ["<|python_tag|>", '{"name": "f", "parameters": {', '{"type": "function", "name": "g", ', "}}", ";", "<|py"],
    "mistral": [
        "[TOOL_CALLS]",
        "[ARGS]",
        '[TOOL_CALLS][{"name": "f", "arguments": {',
        "}}, ",
        "}}]",
        "[TOOL_CALLS]g[ARGS]{",
        "[TOOL",
    ],
    "pythonic": [
        *("<|python_start|>[", "]<|python_end|>", "[f(", "[g(), ", "a=", "b=", "c=", "(", ")", ")]", "'", "True", "=", "-1.5")
    ],
}
ALL_FORMS = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@st.composite
def pieces(draw: Any, form: str) -> list[str]:
    """Pieces of a text made of fragments, each of whose marked characters is another one."""
    fragments = draw(st.lists(st.sampled_from(COMMON + 3 * FRAGMENTS[form]), max_size=20))
    number = iter(range(0x4E00, 0x9FFF))
    text = re.sub(MARKED, lambda found: chr(next(number)), "".join(fragments))
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


@ALL_FORMS
@given(data=st.data())
def test_cuts_change_nothing_and_no_text_is_lost_or_shown_twice(form: ToolForm, data: st.DataObject) -> None:
    parts = data.draw(pieces(form.name))
    text = "".join(parts)
    found = parse(form, parts, TOOLS)
    assert parse(form, [text], TOOLS) == found
    assert parse(form, list(text), TOOLS) == found
    if not found.calls:
        assert found.content == text
    shown = found.content + "".join(name + arguments for name, arguments in found.calls)
    marked = [char for char in text if ord(char) >= 0x4E00]
    assert sorted(char for char in shown if ord(char) >= 0x4E00) == marked
    assert _contains(text, found.content), "content is out of order, or is not in the text"


def _contains(text: str, part: str) -> bool:
    """Whether a text without some characters is this."""
    chars = iter(text)
    return all(char in chars for char in part)


WRITERS: dict[str, Callable[[str, str], str]] = {  # a call as each form writes it, with the text before
    "hermes": lambda name, arguments: f'\n<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>',
    "mistral": lambda name, arguments: f"[TOOL_CALLS]{name}[ARGS]{arguments}",
    "llama3_json": lambda name, arguments: f'<|python_tag|>{{"name": "{name}", "parameters": {arguments}}}',
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("form", WRITERS)
@given(data=st.data())
def test_calls_between_texts_are_found_as_they_were_written(form: str, data: st.DataObject) -> None:
    words = st.text("ab .\n", max_size=4)
    written = data.draw(
        st.lists(st.tuples(words, st.sampled_from("fg"), st.dictionaries(st.text(max_size=3), JSON)), max_size=3)
    )
    calls = [(name, json.dumps(arguments, ensure_ascii=False)) for _, name, arguments in written]
    text = "".join(before + WRITERS[form](*call) for (before, _, _), call in zip(written, calls, strict=True))
    content = "".join(before for before, _, _ in written if before.strip())
    assert parse(FORMS[form], [text], TOOLS) == Parsed(content, calls)
    assert parse(FORMS[form], list(text), TOOLS) == Parsed(content, calls)


LOOKALIKES = {
    "hermes": ["<tool_call", '<tool_call>{"name": "', "<tool_call>", '{"', "\n", "<"],
    "qwen3_coder": ["<tool_call", "<function=", "<tool_call><function=x>", "<parameter=", "<"],
    "llama3_json": ["{", "\n{", '\n{"name": ', "<|python_tag|>", '{"name": "f", "parameters": {'],
    "mistral": ["[TOOL_CALLS", "[TOOL_CALLS]", "[TOOL_CALLS][", "[TOOL_CALLS]f", "["],
    "pythonic": ["[", "\n[", "\n[f(", "[f(a=", "(", "\\"],
}


@pytest.mark.parametrize(("form", "unit"), [(form, unit) for form, units in LOOKALIKES.items() for unit in units])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
def test_work_is_linear_in_the_text(form: str, unit: str, cut: bool) -> None:
    """Counted in calls of functions; what is kept unread, and copied with every piece, is at most one mark."""

    def work(text: str) -> int:
        count = 0

        def counted(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        parser = FORMS[form].parser(TOOLS)
        sys.setprofile(counted)
        try:
            for piece in text if cut else [text]:
                parser.add(piece)
            parser.finish()
        finally:
            sys.setprofile(None)
        return count

    some, more = (work(unit * count) for count in (200, 800))
    assert more < 5 * some + 1000
