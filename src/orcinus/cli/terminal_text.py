"""Text of models on a terminal: escape sequences are shown, and not obeyed."""

from __future__ import annotations

import sys

from rich.console import Console

# A terminal's commands begin with these: they could set its title, fill the clipboard or hide text.
PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t\r"} | {127: "\u2421"}
CONTROLS = PICTURES | dict.fromkeys(range(0x80, 0xA0), "\ufffd") | {ord("\r"): None}


def harmless(text: str, console: Console | None = None) -> str:
    """The text for a console, or for standard output; unchanged where that is no terminal."""
    terminal = sys.stdout.isatty() if console is None else console.is_terminal
    return text.translate(CONTROLS) if terminal else text
