"""Python literals become JSON while they arrive."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from orcinus.text.tools.incremental_text import IncrementalText, Steps
from orcinus.text.tools.json_text import in_string, json_string

DEEPEST = 64  # lists and dictionaries in each other
WORD = re.compile(r"[^\s,()\[\]{}:=\"']+")
IN_STRING = {quote: re.compile(rf"[^\\{quote}]+") for quote in "\"'"}
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
CONSTANTS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
ESCAPES = {**dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)), "\\": "\\", "'": "'", '"': '"', "/": "/", "\n": ""}
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
HEX, OCTAL = re.compile("[0-9a-fA-F]"), re.compile("[0-7]")


class PythonLiteral:
    """Reads strings, numbers, constants, lists, tuples and dictionaries.

    `show` receives JSON, piece by piece. Readers return False where the text is no literal or ends.
    """

    def __init__(self, text: IncrementalText, show: Callable[[str], None]) -> None:
        self._text, self._show = text, show

    def value(self, *, as_string: bool = False, depth: int = 0) -> Steps[bool]:
        """Read a literal; `as_string`: bare words and numbers are strings."""
        char = yield from self._text.peek()
        if char and char in IN_STRING:
            return (yield from self._string())
        if char and char in "[({":
            return depth < DEEPEST and (yield from self._items({"[": "]", "(": ")", "{": "}"}[char], depth + 1))
        return (yield from self.rest_of_word((yield from self._text.all_of(WORD)), as_string=as_string))

    def rest_of_word(self, word: str, *, as_string: bool) -> Steps[bool]:
        """Show a word that has been read: number, constant or bare."""
        if not (yield from self._text.peek()):  # cut: what it would have become is unknown
            self._show(word)
            return False
        if word:
            self._show(_word(word, as_string))
        return bool(word)

    def _items(self, end: str, depth: int) -> Steps[bool]:
        self._text.take()
        opened, closed = ("{", "}") if end == "}" else ("[", "]")
        self._show(opened)
        comma = True
        while True:
            yield from self._text.space()
            if (yield from self._text.literal(end)):
                self._show(closed)
                return True
            if not comma or not (yield from self._item(opened, depth)):
                return False
            yield from self._text.space()
            comma = yield from self._text.literal(",")
            yield from self._text.space()
            if comma and not (yield from self._text.at(end)):
                self._show(", ")

    def _item(self, opened: str, depth: int) -> Steps[bool]:
        return (opened == "[" or (yield from self._key())) and (yield from self.value(depth=depth))

    def _key(self) -> Steps[bool]:
        """A dictionary's key, with the colon and the space after it."""
        char = yield from self._text.peek()
        if char and char in IN_STRING:
            found = yield from self._string()
        else:
            word = yield from self._text.all_of(WORD)
            found = bool(word)
            self._show(json_string(word) if word else "")
        yield from self._text.space()
        if not found or not (yield from self._text.literal(":")):
            return False
        self._show(": ")
        yield from self._text.space()
        return True

    def _string(self) -> Steps[bool]:
        quote = self._text.take()
        plain = IN_STRING[quote]
        self._show('"')
        if (yield from self._text.literal(2 * quote)):
            quote = 3 * quote
        while char := (yield from self._text.peek()):
            if char == "\\":
                self._text.take()
                self._show((yield from self._escape()))
            elif (yield from self._text.literal(quote)):
                self._show('"')
                return True
            else:
                self._show(in_string(self._text.run(plain) or self._text.take()))
        return False

    def _escape(self) -> Steps[str]:
        """What an escape sequence means, its backslash being read."""
        char = yield from self._text.peek()
        if not char:
            return ""
        if OCTAL.match(char):
            return in_string(chr(int((yield from self._digits(OCTAL, 3)), 8)))
        self._text.take()
        if char not in HEX_DIGITS:
            return in_string(ESCAPES.get(char, f"\\{char}"))
        digits = yield from self._digits(HEX, HEX_DIGITS[char])
        if len(digits) < HEX_DIGITS[char] or int(digits, 16) > 0x10FFFF:
            return in_string(f"\\{char}{digits}")
        return f"\\u{digits}" if char == "u" else in_string(chr(int(digits, 16)))  # a pair of surrogates is two escapes

    def _digits(self, pattern: re.Pattern[str], most: int) -> Steps[str]:
        digits = ""
        while len(digits) < most and pattern.match((yield from self._text.peek())):
            digits += self._text.take()
        return digits


def python_json(text: str) -> str | None:
    """A whole Python literal as JSON text; None if it is none."""
    read, pieces = IncrementalText(), list[str]()
    read.add(text + "\n")
    read.ended = True
    steps = _whole(read, pieces)
    try:
        next(steps)
    except StopIteration as done:
        return "".join(pieces) if done.value else None
    return None


def _whole(text: IncrementalText, pieces: list[str]) -> Steps[bool]:
    found = yield from PythonLiteral(text, pieces.append).value()
    yield from text.space()
    return found and not (yield from text.peek())


def _word(word: str, as_string: bool) -> str:
    """A number, a constant or a bare word as JSON."""
    if word in CONSTANTS:
        return f'"{word}"' if as_string and CONSTANTS[word] != "null" else CONSTANTS[word]
    return json_string(word) if as_string else _number(word) or json_string(word)


def _number(word: str) -> str:
    """A Python number as JSON; "" if it is none."""
    if JSON_NUMBER.fullmatch(word):
        return word
    for read in (lambda: int(word, 0), lambda: float(word)):
        try:
            return json.dumps(read(), allow_nan=False)
        except ValueError:
            pass
    return ""
