"""Prompts from the command line, a file or standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orcinus.errors import RequestError

STDIN = "-"


def read_prompts(arguments: Sequence[str], file: str | None) -> list[str]:
    """Prompts from arguments, a file or stdin (`-`). Raises `RequestError`."""
    if arguments and file:
        raise RequestError("prompts come either as arguments or from --file, not both")
    if arguments:
        prompts = list(arguments)
    elif file and file != STDIN:
        prompts = _lines(_read(Path(file)), file)
    elif file == STDIN or not sys.stdin.isatty():
        prompts = _lines(sys.stdin.buffer.read(), "standard input")
    else:
        raise RequestError("no prompt: give one as an argument, with --file, or on standard input")
    empty = next((index for index, prompt in enumerate(prompts) if not prompt.strip()), None)
    if empty is not None:
        raise RequestError(f"prompt {empty + 1} is empty: give at least one character")
    return prompts


def as_messages(llm: Any, texts: Sequence[str], raw: bool) -> list[Any]:
    """Texts as user messages, if the model has a chat template."""
    chats = not raw and llm.tokenizer is not None and llm.tokenizer.chats
    return [llm.encode_chat([{"role": "user", "content": text}]) if chats else text for text in texts]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read prompts from {file}: {error.strerror or error}") from None


def _lines(content: bytes, origin: str) -> list[str]:
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise RequestError(f"{origin} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    prompts = [line for line in lines if line]
    if not prompts:
        raise RequestError(f"{origin} holds no prompt: write one per line")
    return prompts
