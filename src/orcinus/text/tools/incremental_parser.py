"""The part of parsers that all forms share: content, marks, deltas."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from orcinus.text.tools.incremental_text import IncrementalText, Steps
from orcinus.text.tools.tool_call import Tool, ToolCallDelta, random_id


class IncrementalParser(ABC):
    """Finds openings of calls; `_block` of a form reads on from there.

    What does not parse is content. Of the text between two calls, or between a call and an end of the answer, nothing is
    shown if it is only white space.
    """

    openings: ClassVar[tuple[str, ...]]
    bare: ClassVar[str] = ""  # a character that opens a call without a mark, at the beginning of a line
    own_newline: ClassVar[bool] = False  # whether a newline before an opening mark is the template's, not content

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self._text, self._content = IncrementalText(), _Content(self.own_newline)
        self._deltas: list[ToolCallDelta] = []
        self._index, self._arguments = -1, list[str]()
        self._pattern = re.compile("|".join(map(re.escape, (*self.openings, *self.bare))))
        self._steps = self._parse()

    def add(self, text: str) -> tuple[str, list[ToolCallDelta]]:
        """Add text; returns the content and the deltas that are now certain."""
        self._text.add(text)
        next(self._steps, None)
        return self._certain()

    def finish(self) -> tuple[str, list[ToolCallDelta]]:
        """The held-back rest, at the end of the answer."""
        self._text.ended = True
        next(self._steps, None)
        self._content.finish(self._index >= 0)
        return self._certain()

    def _certain(self) -> tuple[str, list[ToolCallDelta]]:
        self._end_delta()
        shown, deltas = "".join(self._content.shown), self._deltas
        self._content.shown, self._deltas = [], []
        return shown, deltas

    def _parse(self) -> Steps[None]:
        while mark := (yield from self._opening()):
            yield from self._block(mark)
            self._content.add(self._text.kept())

    @abstractmethod
    def _block(self, mark: str) -> Steps[None]:
        """Read calls after an opening.

        The record has the opening; what it has at the end is shown as content.
        """

    def _opening(self) -> Steps[str]:
        """Show text up to the next opening, which is returned.

        It is "" at the end. A mark is taken, a bare character is not.
        """
        while True:
            if found := self._find():
                place, mark = found
                self._content.add(self._text.take(place))
                self._text.keep()
                return mark if mark == self.bare else self._text.take(len(mark))
            self._content.add(self._text.take(self._text.arrived(self.openings)))
            if self._text.ended:
                return ""
            yield

    def _find(self) -> tuple[int, str] | None:
        first = self._text.leading_space if self._content.blank else -1
        found = self._text.find(self._pattern)
        while found and found[1] == self.bare and not self._begins_line(found[0], first):
            found = self._text.find(self._pattern, found[0] + 1)
        return found

    def _begins_line(self, place: int, first: int) -> bool:
        before = self._text.before(place) or self._content.last
        return place == first or before == "\n"

    def _begin_call(self, name: str, call_id: str | None = None) -> None:
        """Show a new call; the record so far was its beginning."""
        self._text.kept()
        self._content.begin_call()
        self._end_delta()
        self._index += 1
        self._deltas.append(ToolCallDelta(self._index, call_id or self._new_id(), name))

    def _new_id(self) -> str:
        return random_id()

    def _show(self, arguments: str) -> None:
        """Show a piece of the current call's arguments."""
        self._arguments.append(arguments)

    def _show_cut(self) -> Steps[None]:
        """Show the record as arguments if the answer ends here."""
        if not (yield from self._text.peek()):
            self._show(self._text.kept())

    def _end_delta(self) -> None:
        if arguments := "".join(self._arguments):
            self._deltas.append(ToolCallDelta(self._index, arguments=arguments))
        self._arguments.clear()


class _Content:
    """The text beside calls.

    White space that may belong to marks is held back.
    """

    def __init__(self, own_newline: bool) -> None:
        self.shown: list[str] = []
        self.blank = True  # whether the text since the last call is only white space
        self.last = ""  # the last character, shown or held
        self._held: list[str] = []
        self._own_newline = own_newline

    def add(self, text: str) -> None:
        """Show text, except white space that may belong to a mark."""
        if not text:
            return
        self.last = text[-1]
        if self.blank and text.isspace():
            self._held.append(text)
            return
        self.blank = False
        self.shown += self._held
        self._held = []
        if self._own_newline and text.endswith("\n"):
            text, self._held = text[:-1], ["\n"]
        self.shown.append(text)

    def begin_call(self) -> None:
        """Forget held white space."""
        self._held, self.blank, self.last = [], True, ""

    def finish(self, called: bool) -> None:
        """Show what is held, except white space after a call."""
        if not (called and self.blank):
            self.shown += self._held
        self._held = []
