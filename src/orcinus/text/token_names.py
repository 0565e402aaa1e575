"""Names of tokens in vocabularies: which bytes they stand for, and which have no text."""

from __future__ import annotations

import re
from collections.abc import Callable


def _bytes_of_byte_level() -> dict[str, int]:
    """The byte of each character in byte-level token names (GPT-2).

    No byte is written as a blank.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


CHARACTER_BYTES = _bytes_of_byte_level()
BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")


class SilentTokens:
    """Tokens without text: special tokens, and ids outside the vocabulary."""

    def __init__(self, special: frozenset[int], name: Callable[[int], str | None]) -> None:
        self._special, self._name = special, name

    def __contains__(self, token: object) -> bool:
        return token in self._special or (isinstance(token, int) and self._name(token) is None)
