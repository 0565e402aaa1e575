"""Streamed text in a terminal: broken between words, and never changed where there is no terminal."""

from __future__ import annotations

import io
import random

import pytest
from rich.console import Console

from orcinus.cli.word_wrap import WordWrap

TEXT = (
    "The sea has no clock and is never late,\nit knocks every morning at the harbour gate. "
    "Uncharacteristically-long-words-do-not-fit 你好你好你好你好"
)


def written(text: str, width: int, *, terminal: bool = True, seed: int = 0) -> str:
    """What arrives when the text comes in random pieces."""
    file, rng = io.StringIO(), random.Random(seed)
    wrap = WordWrap(Console(file=file, width=width, force_terminal=terminal, color_system=None))
    while text:
        count = rng.randint(1, 6)
        wrap.write(text[:count])
        text = text[count:]
    wrap.end()
    return file.getvalue()


@pytest.mark.parametrize("width", [12, 20, 33, 80])
@pytest.mark.parametrize("seed", range(5))
def test_lines_end_between_words(width: int, seed: int) -> None:
    lines = written(TEXT, width, seed=seed).split("\n")
    assert [word for line in lines for word in line.split()] == TEXT.split()
    for line in lines:
        assert len(line.rstrip()) <= width or " " not in line.rstrip()


def test_its_own_line_breaks_stay() -> None:
    assert written("one\n\ntwo", 40) == "one\n\ntwo"


def test_without_a_terminal_nothing_changes() -> None:
    assert written(TEXT, 10, terminal=False) == TEXT


EVIL = "a\x1b]52;c;ZXZpbA==\x07b\x1b[2Jc\x9b31md\x7fe\r\n"


def test_what_would_command_a_terminal_is_shown_and_not_obeyed() -> None:
    shown = written(EVIL, 80)
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\x7f"}
    assert shown == "a␛]52;c;ZXZpbA==␇b␛[2Jc\ufffd31md␡e\n"
    assert "\x1b" in written(EVIL, 80, terminal=False), "a file gets what the model wrote"
