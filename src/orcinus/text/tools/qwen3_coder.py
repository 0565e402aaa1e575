"""The form of Qwen3-Coder: `<tool_call><function=name><parameter=x>value</parameter></function></tool_call>`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from orcinus.text.tools.call_grammar import CallGrammar, Opening, check_name, quoted
from orcinus.text.tools.incremental_parser import IncrementalParser
from orcinus.text.tools.incremental_text import Steps
from orcinus.text.tools.json_text import in_string, json_string
from orcinus.text.tools.parameter_schema import ParameterSchema, json_value
from orcinus.text.tools.tool_call import TokenId, Tool, ToolChoice, ToolParser
from orcinus.text.tools.xml_arguments import END_OF_VALUE, NAME, PARAMETER, arguments_rule

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FUNCTION, END_OF_FUNCTION = "<function=", "</function>"
TEXT = re.compile(r"[^<]+")


@dataclass(frozen=True, slots=True)
class Qwen3Coder:
    """Marks like XML; values are text, their types the schema's.

    Some models leave out the first mark: then the function must be a known tool.
    """

    name: ClassVar[str] = "qwen3_coder"
    marks: ClassVar[tuple[str, ...]] = (OPEN, CLOSE)

    def parser(self, tools: Sequence[Tool]) -> ToolParser:
        """A parser for one answer."""
        return _Qwen3CoderParser(tools)

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool, token_id: TokenId) -> str | None:
        """The grammar of answers."""
        grammar = CallGrammar(tools, choice, parallel, token_id)
        grammar.add_calls(lambda tool: self._call(grammar, tool))
        function = quoted(f"\n{FUNCTION}")
        openings = Opening(OPEN, then=function), Opening(FUNCTION)
        begin = f"{grammar.mark(OPEN)} {function}"
        return grammar.answer(*openings, begin=begin, separator=f'"\\n" {begin}')

    def _call(self, grammar: CallGrammar, tool: Tool) -> tuple[str, ...]:
        begin = quoted(f"{check_name(tool.name, NAME, 'name', self.name)}>\n")
        return begin, arguments_rule(grammar, tool, self.name), quoted(f"{END_OF_FUNCTION}\n"), grammar.mark(CLOSE)


class _Qwen3CoderParser(IncrementalParser):
    openings = (OPEN, FUNCTION)
    own_newline = True

    def _block(self, mark: str) -> Steps[None]:
        begun = mark == FUNCTION
        while True:
            yield from self._text.space()
            if not begun and not (yield from self._text.literal(FUNCTION)):
                return
            name = yield from self._name(known=mark == FUNCTION)
            if not name or not (yield from self._function(name)):
                return
            yield from self._text.space()
            if (yield from self._text.literal(CLOSE)):
                self._text.keep()
                return
            begun = False

    def _name(self, *, known: bool = False) -> Steps[str]:
        """A name and the `>` after it; "" if there is none."""
        name = yield from self._text.all_of(NAME)
        ended = yield from self._text.literal(">")
        return name.strip() if ended and (not known or name.strip() in self.tools) else ""

    def _function(self, name: str) -> Steps[bool]:
        """A call's arguments; False: its end is missing."""
        self._begin_call(name)
        schema, before = ParameterSchema(self.tools.get(name)), "{"
        while True:
            self._text.keep()
            yield from self._text.space()
            if not (yield from self._text.literal(PARAMETER)):
                break
            key = yield from self._name()
            if not key:
                yield from self._show_cut()
                return False
            self._text.kept()
            self._show(f"{before}{json_string(key)}: ")
            yield from self._value(schema.types(key))
            before = ", "
        if (yield from self._text.literal(END_OF_FUNCTION)) or (yield from self._text.at(CLOSE)):
            self._show("}" if before == ", " else "{}")
            self._text.keep()
            return True
        return False

    def _value(self, types: frozenset[str]) -> Steps[None]:
        """A value, to its closing mark; strings are shown at once."""
        value = _Value(types)
        yield from self._text.literal("\n")
        while (yield from self._text.peek()):
            if (yield from self._text.literal(END_OF_VALUE)):
                self._show(value.end())
                return
            self._show(value.add(self._text.run(TEXT) or self._text.take()))
        self._show(value.cut())


class _Value:
    """A value's text on its way to JSON.

    A newline at its end is the form's.
    """

    def __init__(self, types: frozenset[str]) -> None:
        self._types, self._pieces, self._newline = types, list[str](), ""
        self._streams, self._quote = types == {"string"}, '"'

    def add(self, text: str) -> str:
        """Add text; returns what can be shown of the string."""
        text, self._newline = self._newline + text, ""
        if text.endswith("\n"):
            text, self._newline = text[:-1], "\n"
        if not self._streams:
            self._pieces.append(text)
            return ""
        return self._opened() + in_string(text)

    def _opened(self) -> str:
        quote, self._quote = self._quote, ""
        return quote

    def end(self) -> str:
        """The rest of the value."""
        return f'{self._opened()}"' if self._streams else json_value("".join(self._pieces), self._types)

    def cut(self) -> str:
        """The rest of a value that the end of the answer cuts."""
        if self._streams:
            return self._opened() + in_string(self._newline)
        return "".join(self._pieces) + self._newline
