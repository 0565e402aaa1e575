"""Text that arrives in pieces, for parsers written as generators."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]  # yields while it needs text that has not arrived; returns T
SPACE = re.compile(r"\s+")


class IncrementalText:
    """Text read from the front, each character once.

    While a record is kept, it has all that was taken since `keep`: a parser shows it as text if it turns out not to be a
    call. What is looked at and not taken is at most as long as one mark, so the work is linear in the text.
    """

    def __init__(self) -> None:
        self._text, self._at = "", 0
        self._kept: list[str] | None = None
        self.ended = False

    def add(self, text: str) -> None:
        """Append text."""
        self._text, self._at = self._text[self._at :] + text, 0

    def keep(self) -> None:
        """Begin a new record; the old one is forgotten."""
        self._kept = []

    def kept(self) -> str:
        """The record, which ends."""
        kept, self._kept = "".join(self._kept or ()), None
        return kept

    def peek(self) -> Steps[str]:
        """The next character; "" at the end."""
        while self._at == len(self._text):
            if self.ended:
                return ""
            yield
        return self._text[self._at]

    def take(self, count: int = 1) -> str:
        """Take characters that have arrived."""
        taken = self._text[self._at : self._at + count]
        self._at += count
        if self._kept is not None:
            self._kept.append(taken)
        return taken

    def run(self, pattern: re.Pattern[str]) -> str:
        """Take what has arrived and matches; maybe nothing, maybe not all."""
        match = pattern.match(self._text, self._at)
        return self.take(match.end() - self._at) if match else ""

    def all_of(self, pattern: re.Pattern[str]) -> Steps[str]:
        """Take all characters of a class, such as `[a-z]+`."""
        pieces = []
        while (yield from self.peek()) and (piece := self.run(pattern)):
            pieces.append(piece)
        return "".join(pieces)

    def space(self) -> Steps[str]:
        """Take white space."""
        return (yield from self.all_of(SPACE))

    def at(self, literal: str) -> Steps[bool]:
        """Whether the text goes on with a literal, which is not taken."""
        while True:
            if self._text.startswith(literal, self._at):
                return True
            arrived = len(self._text) - self._at
            if self.ended or arrived >= len(literal) or not literal.startswith(self._text[self._at :]):
                return False
            yield

    def literal(self, literal: str) -> Steps[bool]:
        """Take a literal if the text goes on with it."""
        found = yield from self.at(literal)
        if found:
            self.take(len(literal))
        return found

    def find(self, pattern: re.Pattern[str], start: int = 0) -> tuple[int, str] | None:
        """The first match so far: characters before it, and the match."""
        match = pattern.search(self._text, self._at + start)
        return (match.start() - self._at, match[0]) if match else None

    def before(self, place: int) -> str:
        """The character before a place ahead, if it is ahead too."""
        return self._text[self._at + place - 1] if place else ""

    @property
    def leading_space(self) -> int:
        """Characters of white space ahead that have arrived."""
        match = SPACE.match(self._text, self._at)
        return match.end() - self._at if match else 0

    def arrived(self, marks: tuple[str, ...]) -> int:
        """Characters ahead, without a last part that may begin a mark."""
        length = len(self._text) - self._at
        for begun in range(min(max(map(len, marks), default=1) - 1, length), 0, -1):
            last = self._text[len(self._text) - begun :]
            if not self.ended and any(mark.startswith(last) for mark in marks):
                return length - begun
        return length
