"""Incremental detokenization: only text that can no longer change."""

from __future__ import annotations

from codecs import BufferedIncrementalDecoder, utf_8_decode
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import chain, islice, takewhile
from typing import Any, Protocol

NO_CHARACTER = "\ufffd"
CONTEXT = 4  # units of text before a token that may have a say in its text
TAIL = 5 * CONTEXT  # tokens that hold so many units, and a character that is cut: a unit has at most four bytes


class _Utf8(BufferedIncrementalDecoder):
    """UTF-8 as it comes. Bytes that cannot become a character any more do not wait."""

    def _buffer_decode(self, data: Any, errors: str, final: bool) -> tuple[str, int]:
        text, used = utf_8_decode(data, errors, final)
        waiting = bytes(data[used:])
        if waiting[:1] == b"\xed" and waiting[1:] >= b"\xa0":  # half of a surrogate, whose rest Python waits for
            return utf_8_decode(data, errors, True)
        return text, used


def added(before: str, after: str) -> str:
    """What a text has behind the beginning that it shares with another one."""
    if after.startswith(before):
        return after[len(before) :]
    return after[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))) :]


class Writer(Protocol):
    """A tokenizer's decoder, token by token. Costs the same for every token, however long the text is."""

    @property
    def pending(self) -> int:
        """How many U+FFFD the bytes would be that may still become a character."""
        ...

    def write(self, token: int) -> str:
        """The text that became certain with this token, often none."""
        ...

    def flush(self) -> str:
        """The bytes that wait for the rest of their character, as U+FFFD."""
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

    Some of their tokens may be single bytes.

    What a piece adds depends on its neighbours: a space at the beginning of a text is dropped, for one. So the last units of
    text are decoded with and without the new one. A unit is a piece, or the byte tokens of one whole character. A byte that
    can be part of none is U+FFFD, with any neighbours; `filler`, any token with text, stands for it in the context.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], byte: Callable[[int], int | None], filler: Callable[[], tuple[int, ...]]
    ) -> None:
        self._decode, self._byte, self._filler = decode, byte, filler
        self._context: list[tuple[int, ...]] = []
        self._bytes: tuple[int, ...] = ()  # byte tokens of an unfinished character
        self._utf8 = _Utf8("surrogateescape")  # every byte that is no part of a character becomes a surrogate

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
        """The text of a character, or of a byte that is none."""
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
        """Forget what is too old to matter. Units without text never push out the last ones that have some."""
        self._context.append(unit)
        if shown:
            del self._context[:-CONTEXT]
        else:
            del self._context[CONTEXT:-CONTEXT]


class Detokenizer:
    """Turns the tokens of an answer into text. The pieces joined are what the answer adds to the text of its prompt.

    A character that the prompt begins and the answer completes belongs to the answer. If the answer does not complete it, its
    U+FFFD is the prompt's, unless the prompt is shown with the answer (`echo`). Tokens that are `silent` have no text and
    part no character; `marks` are shown by these names.
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
        """A writer primed with as much of the prompt as matters."""
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
        """The text that became certain with this token, often none."""
        if token in self._marks:
            return self._own(self._writer.flush()) + self._marks[token]
        return "" if token in self._silent else self._own(self._writer.write(token))

    def finish(self) -> str:
        """What was held back because its last character is not complete."""
        return self._own(self._writer.flush())

    def _own(self, text: str) -> str:
        if not (text and self._known):
            return text
        broken = len(text) - len(text.lstrip(NO_CHARACTER))
        text, self._known = text[min(broken, self._known) :], 0
        return text
