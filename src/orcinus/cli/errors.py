"""The form of an error: one line on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def print_error(message: str) -> None:
    """Print what went wrong; the message says what to do."""
    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
