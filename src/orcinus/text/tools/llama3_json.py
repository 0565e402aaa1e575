"""The form of Llama 3: `{"name": …, "parameters": {…}}`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from orcinus.text.tools.call_grammar import SPACE, CallGrammar, Opening, json_call, quoted
from orcinus.text.tools.incremental_text import Steps
from orcinus.text.tools.json_call import JsonCallParser
from orcinus.text.tools.tool_call import TokenId, Tool, ToolChoice, ToolParser

MARK = "<|python_tag|>"


@dataclass(frozen=True, slots=True)
class Llama3Json:
    """Bare JSON objects, separated by semicolons.

    Without a mark, an object is a call if it begins the answer, or a line and names a known tool.
    """

    name: ClassVar[str] = "llama3_json"
    marks: ClassVar[tuple[str, ...]] = (MARK,)

    def parser(self, tools: Sequence[Tool]) -> ToolParser:
        """A parser for one answer."""
        return _LlamaParser(tools)

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool, token_id: TokenId) -> str | None:
        """The grammar of answers; forced calls have no mark."""
        grammar = CallGrammar(tools, choice, parallel, token_id)
        grammar.add_calls(lambda tool: json_call(grammar, tool, "parameters"))
        name = quoted('{"name"')
        openings = (
            Opening(line=f'"{{" {SPACE} "\\"name\\""'),
            Opening(line=f'"{{" {SPACE} "\\"type\\""', then=quoted(': "function", "name"')),
            Opening(MARK, then=name),
        )
        begin = f'"{{" {quoted(chr(34) + "name" + chr(34))}'  # apart, because another answer may begin with {, too
        return grammar.answer(*openings, begin=begin, separator=f'"; " {name}')


class _LlamaParser(JsonCallParser):
    openings = (MARK,)
    bare = "{"

    def _block(self, mark: str) -> Steps[None]:
        marked = mark == MARK
        known = not marked and not self._content.blank
        while True:
            yield from self._text.space()
            if not (yield from self._call(marked=marked, known=known)):
                return
            yield from self._text.space()
            if not (yield from self._text.literal(";")):
                return
