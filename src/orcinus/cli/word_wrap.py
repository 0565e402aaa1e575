"""Word wrap for streamed text at the edge of the terminal."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.console import Console

from orcinus.cli.terminal_text import harmless


class WordWrap:
    """Wraps streamed text, holding the last word back until it is whole.

    Where there is no terminal, the text goes through unchanged.
    """

    def __init__(self, console: Console) -> None:
        self.console, self.column, self.held = console, 0, ""

    def write(self, text: str) -> None:
        """Print a piece, up to its last whole word."""
        if not self.console.is_terminal:
            self._print(text)
            return
        *parts, self.held = re.split(r"(?<=\s)(?=\S)|(?<=\n)", self.held + text)
        for part in parts:
            self._place(part)

    def end(self) -> None:
        """Print the word held back."""
        self._place(self.held)
        self.held = ""

    def _place(self, part: str) -> None:
        """Print a word, on a new line if it does not fit."""
        if self.column and self.column + cell_len(part.rstrip()) > self.console.width:
            self._print("\n")
            self.column = 0
        self._print(part)
        self.column = 0 if part.endswith("\n") else self.column + cell_len(part)

    def _print(self, text: str) -> None:
        self.console.print(harmless(text, self.console), end="", markup=False, emoji=False, soft_wrap=True)
