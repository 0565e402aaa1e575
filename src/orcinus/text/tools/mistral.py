"""The forms of Mistral: `[TOOL_CALLS][{…}, {…}]`, and `[TOOL_CALLS]name[ARGS]{…}` of newer models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from orcinus.text.tools.call_grammar import CallGrammar, Opening, check_name, json_call, quoted
from orcinus.text.tools.incremental_text import Steps
from orcinus.text.tools.json_call import JsonCallParser
from orcinus.text.tools.tool_call import TokenId, Tool, ToolChoice, ToolParser, random_id

OPEN, ARGS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
NAME = re.compile(r"[^\s\[\]{}\"]+")
ID = re.compile(r"[a-zA-Z0-9]+")
ID_LENGTH = 9  # templates refuse any other


@dataclass(frozen=True, slots=True)
class Mistral:
    """A list of JSON objects after a mark.

    With `named`, a mark, a name and arguments for each call. The parser reads both; `named` is what the grammar writes.
    """

    name: ClassVar[str] = "mistral"
    marks: ClassVar[tuple[str, ...]] = (OPEN, ARGS, CALL_ID)
    named: bool = False

    def parser(self, tools: Sequence[Tool]) -> ToolParser:
        """A parser for one answer."""
        return _MistralParser(tools)

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool, token_id: TokenId) -> str | None:
        """The grammar of answers."""
        grammar = CallGrammar(tools, choice, parallel, token_id)
        mark = grammar.mark(OPEN)
        if self.named:
            grammar.add_calls(lambda tool: self._named_call(grammar, tool))
            return grammar.answer(Opening(OPEN), begin=mark, separator=mark)
        grammar.add_calls(lambda tool: json_call(grammar, tool, "arguments", ""))
        return grammar.answer(Opening(OPEN, then='"["', end='"]"'), begin=f'{mark} "["', separator='", "', end='"]"')

    def _named_call(self, grammar: CallGrammar, tool: Tool) -> tuple[str, ...]:
        name = check_name(tool.name, NAME, "name", self.name)
        return quoted(name), grammar.mark(ARGS), grammar.arguments(tool)


def template_id(call_id: str) -> str:
    """The id of a call of the history as templates accept it.

    Ids of this form are kept, without the prefix that an API may have put in front. Others become digests, equal for equal ids.
    """
    own = call_id.rpartition("_")[2]
    return own if len(own) == ID_LENGTH and ID.fullmatch(own) else hashlib.sha256(call_id.encode()).hexdigest()[:ID_LENGTH]


class _MistralParser(JsonCallParser):
    openings = (OPEN,)

    def _new_id(self) -> str:
        return random_id("", ID_LENGTH)

    def _block(self, mark: str) -> Steps[None]:
        yield from self._text.space()
        if (yield from self._text.at("{")):
            yield from self._call()
        elif not (yield from self._text.at(OPEN)) and (yield from self._text.literal("[")):
            yield from self._list()
        else:
            yield from self._named()

    def _list(self) -> Steps[None]:
        while True:
            yield from self._text.space()
            if not (yield from self._call()):
                return
            yield from self._text.space()
            if not (yield from self._text.literal(",")):
                break
        if (yield from self._text.literal("]")):
            self._text.keep()

    def _named(self) -> Steps[None]:
        name = yield from self._text.all_of(NAME)
        call_id = ""
        if (yield from self._text.literal(CALL_ID)):
            call_id = yield from self._text.all_of(ID)
        yield from self._text.literal(ARGS)  # not all models write it
        yield from self._text.space()
        if name and (yield from self._text.at("{")):
            self._begin_call(name, call_id if len(call_id) == ID_LENGTH else None)
            yield from self._structure(self._show)
            self._text.keep()
