"""The form of Hermes and Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from orcinus.text.tools.call_grammar import CallGrammar, Opening, json_call, quoted
from orcinus.text.tools.incremental_text import Steps
from orcinus.text.tools.json_call import JsonCallParser
from orcinus.text.tools.tool_call import TokenId, Tool, ToolChoice, ToolParser

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True)
class Hermes:
    """JSON objects between marks, each on a line of its own."""

    name: ClassVar[str] = "hermes"
    marks: ClassVar[tuple[str, ...]] = (OPEN, CLOSE)

    def parser(self, tools: Sequence[Tool]) -> ToolParser:
        """A parser for one answer."""
        return _HermesParser(tools)

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool, token_id: TokenId) -> str | None:
        """The grammar of answers."""
        grammar = CallGrammar(tools, choice, parallel, token_id)
        end = quoted("\n"), grammar.mark(CLOSE)
        grammar.add_calls(lambda tool: (quoted("\n"), *json_call(grammar, tool, "arguments", ""), *end))
        return grammar.answer(Opening(OPEN), begin=grammar.mark(OPEN), separator=f'"\\n" {grammar.mark(OPEN)}')


class _HermesParser(JsonCallParser):
    openings = (OPEN,)
    own_newline = True
    closed_by_mark = True

    def _block(self, mark: str) -> Steps[None]:
        while True:
            yield from self._text.space()
            if not (yield from self._call()):
                return
            yield from self._text.space()
            if not (yield from self._text.at("{")):  # some models write several calls between two marks
                break
        if (yield from self._text.literal(CLOSE)):
            self._text.keep()
