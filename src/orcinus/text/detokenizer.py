"""Text piece by piece: what a new token adds, without ever showing half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"


class Detokenizer:
    """Turns tokens into text as they come. The pieces joined equal the text of all tokens decoded at once.

    A token's text depends on its left neighbours (spaces, bytes of one character), so a short window of tokens is decoded
    with and without the new ones, and the difference is what they add. A window that ends inside a character waits.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._window = 0  # first token of the window
        self._shown = 0  # tokens whose text was given out

    def add(self, token: int) -> str:
        """The text that became certain with this token, often none."""
        self._ids.append(token)
        return self._advance(final=False)

    def finish(self) -> str:
        """What was held back because its last character is not complete."""
        return self._advance(final=True)

    def _advance(self, *, final: bool) -> str:
        before = self._decode(self._ids[self._window : self._shown])
        now = self._decode(self._ids[self._window :])
        if (now == before or now.endswith(INCOMPLETE)) and not final:
            return ""  # a special token, which has no text, must not become the window's only neighbour
        self._window, self._shown = self._shown, len(self._ids)
        return now[len(before) :]
