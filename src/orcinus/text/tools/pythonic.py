"""The pythonic form: `[f(a=1, b="x"), g()]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from orcinus.text.tools.call_grammar import SPACE, CallGrammar, Opening, arguments_schema, check_expressible, check_name, quoted
from orcinus.text.tools.incremental_parser import IncrementalParser
from orcinus.text.tools.incremental_text import Steps
from orcinus.text.tools.json_text import json_string
from orcinus.text.tools.parameter_schema import ParameterSchema
from orcinus.text.tools.python_literal import WORD, PythonLiteral
from orcinus.text.tools.tool_call import TokenId, Tool, ToolChoice, ToolParser

MARKS = {"<|python_start|>": "<|python_end|>", "<|tool_call_start|>": "<|tool_call_end|>"}  # Llama 4; LFM2
NAME = re.compile(r"[^\s\[\](){}=,\"'<>]+")
PARAMETER = re.compile(r"[^\s,()\[\]{}:=\"']+")
KEY = r"/[A-Za-z_][A-Za-z_0-9]*/"


@dataclass(frozen=True, slots=True)
class Pythonic:
    """A Python list of calls with literals as arguments.

    Without a mark, a list is one of calls if it begins the answer or a line, and its first function is a known tool.
    `mark` is what the grammar writes before the list.
    """

    name: ClassVar[str] = "pythonic"
    marks: ClassVar[tuple[str, ...]] = (*MARKS, *MARKS.values())
    mark: str = ""

    def parser(self, tools: Sequence[Tool]) -> ToolParser:
        """A parser for one answer."""
        return _PythonicParser(tools)

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool, token_id: TokenId) -> str | None:
        """The grammar of answers."""
        grammar, openings = CallGrammar(tools, choice, parallel, token_id), list[Opening]()

        def call(tool: Tool) -> tuple[str, str]:
            begin = quoted(f"{check_name(tool.name, NAME, 'name', self.name)}(")
            rest = grammar.rule("rest", f'{_arguments(grammar, tool, self.name)} ")"')
            openings.append(Opening(line=f'"[" {SPACE} {begin}', first=rest, end='"]"'))
            return begin, rest

        grammar.add_calls(call)
        for mark, end in MARKS.items():
            openings.append(Opening(mark, then='"["', end=f'"]" {grammar.mark(end)}'))
        begin, end = '"["', '"]"'
        if self.mark:
            begin, end = f"{grammar.mark(self.mark)} {begin}", f"{end} {grammar.mark(MARKS[self.mark])}"
        return grammar.answer(*openings, begin=begin, separator='", "', end=end)


def _arguments(grammar: CallGrammar, tool: Tool, form: str) -> str:
    """The arguments of a tool, in the order of its schema.

    Those of a tool that is not bound have any values. Values are JSON, except `True`, `False` and `None` alone. Raises
    `RequestError` for what this form cannot express.
    """
    if not grammar.bound(tool):
        one = grammar.rule("argument", f'{KEY} "=" {grammar.json("value", {})}')
        return grammar.rule("arguments", f'({one} (", " {one})*)?')
    schema = ParameterSchema(replace(tool, parameters=arguments_schema(tool)))
    check_expressible(schema.root, form)
    names = [*schema.properties, *sorted(schema.required - set(schema.properties))]
    first = more = grammar.rule("arguments", '""')
    for name in reversed(names):  # each rule: what may be written from this parameter on, alone or after another
        begin = quoted(f"{check_name(name, PARAMETER, 'parameters', form)}=")
        one = grammar.rule("argument", f"{begin} {_value(grammar, schema, name)}")
        optional = name not in schema.required
        first = grammar.rule("arguments", f"{one} {more}" + (f" | {first}" if optional else ""))
        more = grammar.rule("more", f'", " {one} {more}' + (f" | {more}" if optional else ""))
    return first


def _value(grammar: CallGrammar, schema: ParameterSchema, name: str) -> str:
    inner, types = schema.inner(name), schema.types(name)
    if types == {"boolean"} and not {"enum", "const"} & set(inner):
        return '("True" | "False")'
    if types == {"null"}:
        return '"None"'
    return grammar.json("value", inner)


class _PythonicParser(IncrementalParser):
    openings = tuple(MARKS)
    bare = "["

    def _block(self, mark: str) -> Steps[None]:
        yield from self._text.space()
        if not (yield from self._text.literal("[")):
            return
        begun, comma = False, True
        while comma:
            yield from self._text.space()
            name = yield from self._text.all_of(NAME)
            known = begun or mark != self.bare or name in self.tools
            if not name or not known or not (yield from self._text.literal("(")):
                break
            begun = True
            if not (yield from self._function(name)):
                return
            yield from self._text.space()
            comma = yield from self._text.literal(",")
        if not (yield from self._text.literal("]")) or not begun:
            return
        self._text.keep()
        yield from self._text.space()
        if mark in MARKS and (yield from self._text.literal(MARKS[mark])):
            self._text.keep()

    def _function(self, name: str) -> Steps[bool]:
        """A call's arguments, to the closing parenthesis; False: it is missing."""
        self._begin_call(name)
        schema, place, comma = ParameterSchema(self.tools.get(name)), 0, True
        while True:
            self._text.keep()
            yield from self._text.space()
            if (yield from self._text.literal(")")):
                self._show("}" if place else "{}")
                self._text.keep()
                return True
            if not comma or not (yield from self._argument(schema, place)):
                yield from self._show_cut()
                return False
            place += 1
            yield from self._text.space()
            comma = yield from self._text.literal(",")

    def _argument(self, schema: ParameterSchema, place: int) -> Steps[bool]:
        """An argument; its place in the schema names one without name."""
        word = yield from self._text.all_of(WORD)
        yield from self._text.space()
        named = bool(word) and (yield from self._text.literal("="))
        if not named and not (yield from self._text.peek()):
            return False  # a name that the end of the answer cuts
        key = word if named else next(iter(list(schema.properties)[place : place + 1]), "")
        if not key:
            return False
        self._text.kept()
        self._show(f"{', ' if place else '{'}{json_string(key)}: ")
        literal, as_string = PythonLiteral(self._text, self._show), schema.types(key) == {"string"}
        if named or not word:
            yield from self._text.space()
            return (yield from literal.value(as_string=as_string))
        return (yield from literal.rest_of_word(word, as_string=as_string))
