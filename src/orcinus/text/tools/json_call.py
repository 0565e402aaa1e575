"""Calls as JSON objects; arguments stay as the model wrote them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from orcinus.text.tools.incremental_parser import IncrementalParser
from orcinus.text.tools.incremental_text import Steps

ARGUMENTS = ("arguments", "parameters")
OTHERS = ("id", "type", "index")  # members that say nothing new
BARE_KEYS = ("name", "type")  # the first key of a call without a mark
IN_STRING = re.compile(r'[^"\\]+')
IN_STRUCTURE = re.compile(r'[^"{}\[\]<]+')
WORD = re.compile(r"[^\s,{}\[\]\"<]+")


@dataclass(slots=True)
class _Envelope:
    """What has been read of a call's object."""

    known: bool  # whether only known tools are calls
    name: str = ""
    held: str = ""  # arguments before the name, or other than an object
    begun: bool = False  # whether the call was shown
    empty: bool = True


class JsonCallParser(IncrementalParser):
    """Reads `{"name": …, "arguments": {…}}`.

    The call is certain when the arguments begin, or at its end if they come before the name. Arguments end where their
    brackets close, or at a `<` outside of strings if the form has a closing mark. An id or a type is dropped; an object with
    any other member is no call.
    """

    closed_by_mark: ClassVar[bool] = False

    def _call(self, *, marked: bool = True, known: bool = False) -> Steps[bool]:
        """Read a call; False: it is none, its text is recorded.

        Without a mark, its first key must be that of a call and it must have arguments. `known`: only of a known tool.
        """
        if not (yield from self._text.literal("{")):
            return False
        call = _Envelope(known)
        while True:
            key = yield from self._key()
            if not key or (call.empty and not marked and key not in BARE_KEYS):
                return call.begun
            if not (yield from self._member(call, key)):
                return call.begun
            yield from self._text.space()
            if not (yield from self._text.literal(",")):
                break
        if not (yield from self._text.literal("}")):
            return call.begun
        return self._end() if call.begun else self._begin_held(call, marked)

    def _member(self, call: _Envelope, key: str) -> Steps[bool]:
        """Read a member's value; False: the object is no call."""
        call.empty = False
        if key == "name":
            name = yield from self._string()
            if call.name or not name or not _printable(name) or (call.known and name not in self.tools):
                return False
            call.name = name
            return True
        if key in OTHERS:
            return bool((yield from self._value()))
        if key not in ARGUMENTS or call.begun or call.held:
            return False
        if call.name and (yield from self._text.at("{")):
            call.begun = True
            self._begin_call(call.name)
            yield from self._structure(self._show)
            self._text.keep()
            return True
        call.held = yield from self._value()
        return bool(call.held)

    def _begin_held(self, call: _Envelope, marked: bool) -> bool:
        """Show a call whose arguments were held, or are missing."""
        arguments = _object(call.held)
        if not call.name or arguments is None or not (marked or call.held):
            return False
        self._begin_call(call.name)
        self._show(arguments)
        return self._end()

    def _end(self) -> bool:
        self._text.keep()
        return True

    def _key(self) -> Steps[str | None]:
        """A member's key, with the colon and the space around it."""
        yield from self._text.space()
        key = yield from self._string()
        yield from self._text.space()
        if key is None or not (yield from self._text.literal(":")):
            return None
        yield from self._text.space()
        return key

    def _string(self) -> Steps[str | None]:
        """The value of a JSON string; None if there is none."""
        if not (yield from self._text.at('"')):
            return None
        pieces: list[str] = []
        yield from self._quoted(pieces.append)
        try:
            value: str = json.loads("".join(pieces))
        except ValueError:
            return None
        return value

    def _value(self) -> Steps[str]:
        """The text of a JSON value."""
        pieces: list[str] = []
        char = yield from self._text.peek()
        if char == '"':
            yield from self._quoted(pieces.append)
        elif char and char in "{[":
            yield from self._structure(pieces.append)
        else:
            return (yield from self._text.all_of(WORD))
        return "".join(pieces)

    def _quoted(self, show: Callable[[str], None]) -> Steps[None]:
        """A string with its quotes; the end may lack the last."""
        show(self._text.take())
        while char := (yield from self._text.peek()):
            if char == "\\":
                show(self._text.take())
                if (yield from self._text.peek()):
                    show(self._text.take())
            elif char == '"':
                show(self._text.take())
                return
            else:
                show(self._text.run(IN_STRING))

    def _structure(self, show: Callable[[str], None]) -> Steps[None]:
        """An object or list, to the bracket that closes it."""
        depth = 0
        while char := (yield from self._text.peek()):
            if char == '"':
                yield from self._quoted(show)
            elif char in "{[":
                depth += 1
                show(self._text.take())
            elif char in "}]":
                depth -= 1
                show(self._text.take())
                if not depth:
                    return
            elif char == "<":
                if self.closed_by_mark:
                    return
                show(self._text.take())
            else:
                show(self._text.run(IN_STRUCTURE))


def _object(text: str) -> str | None:
    """Arguments as the text of an object; None if they are none.

    They may be missing, null, or a string that contains JSON.
    """
    if text in ("", "null"):
        return "{}"
    if text.startswith("{"):
        return text
    try:
        inner = json.loads(text)
        return inner if isinstance(inner, str) and isinstance(json.loads(inner), dict) else None
    except (ValueError, RecursionError):
        return None


def _printable(name: str) -> bool:
    """Whether a name can be sent: no lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in name)
