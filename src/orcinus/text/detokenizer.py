"""Incremental detokenization: only text that can no longer change."""

from __future__ import annotations

from codecs import BufferedIncrementalDecoder, utf_8_decode
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import chain, islice, takewhile
from typing import Any, Protocol

NO_CHARACTER = "\ufffd"
CONTEXT = 4  # units of context that may affect a token's text
TAIL = 5 * CONTEXT  # tokens that surely hold CONTEXT units and a cut character (4 bytes each at most)


class _Utf8(BufferedIncrementalDecoder):
    """An incremental UTF-8 decoder.

    It returns bytes at once if no continuation can make them a character.
    """

    def _buffer_decode(self, data: Any, errors: str, final: bool) -> tuple[str, int]:
        text, used = utf_8_decode(data, errors, final)
        waiting = bytes(data[used:])
        if waiting[:1] == b"\xed" and waiting[1:] >= b"\xa0":  # half a surrogate: Python waits for the rest
            return utf_8_decode(data, errors, True)
        return text, used


def added(before: str, after: str) -> str:
    """The part of a text after its common prefix with another."""
    if after.startswith(before):
        return after[len(before) :]
    return after[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))) :]


class Writer(Protocol):
    """Decodes token by token, at constant cost per token."""

    @property
    def pending(self) -> int:
        """Number of U+FFFD that the held-back bytes would become."""
        ...

    def write(self, token: int) -> str:
        """Add a token; returns the text that is now certain, often none."""
        ...

    def flush(self) -> str:
        """The held-back bytes of an incomplete character, as U+FFFD."""
        ...


class ByteWriter:
    """Writer for byte-level tokenizers: incomplete UTF-8 is held back."""

    def __init__(self, raw: Callable[[int], bytes]) -> None:
        self._raw, self._utf8 = raw, _Utf8("replace")

    @property
    def pending(self) -> int:
        return int(bool(self._utf8.buffer))

    def write(self, token: int) -> str:
        return self._utf8.decode(self._raw(token))

    def flush(self) -> str:
        return self._utf8.decode(b"", True)


class PieceWriter:
    """Writer for SentencePiece- and WordPiece-like tokenizers.

    Some of their tokens may be single bytes. The text of a piece depends on its neighbours: for example, a space at the
    beginning of a text is dropped. So the last units of text are decoded with and without the new one. A unit is a piece,
    or the byte tokens of one whole character. A byte that belongs to no character is U+FFFD, next to any neighbours; in the
    context `filler`, any token with text, replaces it.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], byte: Callable[[int], int | None], filler: Callable[[], tuple[int, ...]]
    ) -> None:
        self._decode, self._byte, self._filler = decode, byte, filler
        self._context: list[tuple[int, ...]] = []
        self._bytes: tuple[int, ...] = ()  # byte tokens of an unfinished character
        self._utf8 = _Utf8("surrogateescape")  # every invalid byte becomes a surrogate

    @property
    def pending(self) -> int:
        return len(self._bytes)

    def write(self, token: int) -> str:
        byte = self._byte(token)
        if byte is None:
            return self.flush() + self._add((token,))
        self._bytes += (token,)
        return "".join(map(self._character, self._utf8.decode(bytes([byte]))))

    def flush(self) -> str:
        return "".join(map(self._character, self._utf8.decode(b"", True)))

    def _character(self, char: str) -> str:
        """The text of a character, or of an invalid byte."""
        size = len(char.encode(errors="surrogateescape"))
        unit, self._bytes = self._bytes[:size], self._bytes[size:]
        if "\udc80" <= char <= "\udcff":
            self._remember(self._filler(), shown=True)
            return NO_CHARACTER
        return self._add(unit)

    def _add(self, unit: tuple[int, ...]) -> str:
        context = list(chain.from_iterable(self._context))
        text = added(self._decode(context), self._decode([*context, *unit]))
        self._remember(unit, shown=bool(text))
        return text

    def _remember(self, unit: tuple[int, ...], *, shown: bool) -> None:
        """Add a unit to the context, and drop units no longer needed.

        Units without text never displace the last ones with text.
        """
        self._context.append(unit)
        if shown:
            del self._context[:-CONTEXT]
        else:
            del self._context[CONTEXT:-CONTEXT]


class Detokenizer:
    """Turns the tokens of an answer into text, piece by piece.

    The joined pieces are the text that the answer adds to its prompt. A character that the prompt begins and the answer
    completes belongs to the answer. If the answer does not complete it, its U+FFFD is the prompt's, unless the prompt is
    shown with the answer (`echo`). Tokens in `silent` have no text and do not split a character; tokens in `marks` are
    shown by those names.
    """

    def __init__(
        self,
        writer: Callable[[], Writer],
        prompt: Sequence[int] = (),
        *,
        silent: Container[int] = (),
        marks: Mapping[int, str] | None = None,
        echo: bool = False,
    ) -> None:
        self._silent, self._marks = silent, marks or {}
        self._writer = self._after(writer, prompt)
        self._known = 0 if echo else self._writer.pending  # U+FFFD that are the prompt's

    def _after(self, make: Callable[[], Writer], prompt: Sequence[int]) -> Writer:
        """A writer that has read as much of the prompt as matters."""
        count = TAIL
        while True:
            audible = (token for token in reversed(prompt) if token not in self._silent)
            tail = list(islice(audible, count))
            writer = make()
            text = "".join(map(writer.write, reversed(tail)))
            if len(text) >= CONTEXT or len(tail) < count:
                return writer
            count *= 4

    def add(self, token: int) -> str:
        """Add a token; returns the text that is now certain, often none."""
        if token in self._marks:
            return self._own(self._writer.flush()) + self._marks[token]
        return "" if token in self._silent else self._own(self._writer.write(token))

    def finish(self) -> str:
        """The held-back bytes of an incomplete last character, as U+FFFD."""
        return self._own(self._writer.flush())

    def _own(self, text: str) -> str:
        if not (text and self._known):
            return text
        broken = len(text) - len(text.lstrip(NO_CHARACTER))
        text, self._known = text[min(broken, self._known) :], 0
        return text
