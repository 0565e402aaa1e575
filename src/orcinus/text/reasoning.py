"""Separates `<think>` reasoning from the answer that follows."""

from __future__ import annotations

BEGIN, END = "<think>", "</think>"


class Reasoning:
    """A filter of text: (reasoning, answer) from each addition.

    Thinking begins at the first `<think>` if nothing but white space comes before it, or at once if the prompt has opened
    it (`open`). It ends at `</think>`, or with the text. White space around the marks belongs to neither side. Where the marks
    are tokens of the model (`marks`: their ids), only these tokens count, not the same text in other tokens.
    """

    def __init__(self, *, open: bool, marks: tuple[int, int] | None = None) -> None:  # noqa: A002
        self._thinking, self._marks = open, marks
        self._decided = open  # whether it is decided if the text begins with reasoning
        self._held = ""
        self._fresh = True  # nothing of this side was returned yet: leading white space is dropped

    @property
    def thinking(self) -> bool:
        """Whether the text added so far ends inside the reasoning."""
        return self._thinking

    def add(self, text: str, token: int | None = None) -> tuple[str, str]:
        """Add the text of a token; returns the reasoning and answer text now certain."""
        self._held += text
        if not self._decided:
            begun = self._held.lstrip()
            if begun.startswith(BEGIN) and (self._marks is None or token == self._marks[0]):
                self._held, self._thinking, self._decided = begun[len(BEGIN) :], True, True
            elif BEGIN.startswith(begun) and (self._marks is None or not begun):
                return "", ""  # still open
            else:
                self._decided, self._fresh = True, False  # an ordinary answer, white space and all
        if not self._thinking:
            return "", self._answer()
        thought, mark, rest = self._at_end(token)
        if mark:
            shown = self._drop_leading(thought.rstrip())
            self._held, self._thinking, self._fresh = rest, False, True
            return shown, self._answer()
        keep = self._may_end()
        shown, self._held = thought[: len(thought) - keep], thought[len(thought) - keep :]
        return self._drop_leading(shown), ""

    def _at_end(self, token: int | None) -> tuple[str, str, str]:
        """The held text before the end mark, the mark, and what follows it."""
        if self._marks is None:
            return self._held.partition(END)
        if token == self._marks[1]:
            return self._held.removesuffix(END), END, ""
        return self._held, "", ""

    def finish(self) -> tuple[str, str]:
        """The held-back text, at the end of the answer."""
        held, self._held = self._held, ""
        return (self._drop_leading(held.rstrip()), "") if self._thinking else ("", held)  # maybe only white space

    def _answer(self) -> str:
        text, self._held = self._held, ""
        return self._drop_leading(text)

    def _drop_leading(self, text: str) -> str:
        if self._fresh:
            text = text.lstrip()
            self._fresh = not text
        return text

    def _may_end(self) -> int:
        """Length of the longest held suffix that may begin `</think>`, and of white space before it."""
        if self._marks is not None:
            return len(self._held) - len(self._held.rstrip())
        for length in range(min(len(END) - 1, len(self._held)), -1, -1):
            if self._held.endswith(END[:length]):
                body = self._held[: len(self._held) - length]
                return length + len(body) - len(body.rstrip())
        return 0
