"""Stop strings: holds back text that may begin one."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """A filter between detokenizer and reader that finds stop strings.

    `found` is the first that is complete, and None before. With `include` the stop string itself is shown too.
    """

    def __init__(self, strings: Sequence[str], *, include: bool = False) -> None:
        self._strings, self._include = tuple(strings), include
        self._held = ""
        self._early = 0  # characters of the held text in which a stop string may begin, but not end
        self.found: str | None = None

    @property
    def stopped(self) -> bool:
        return self.found is not None

    def add(self, text: str, *, early: bool = False) -> str:
        """Add text; returns the text that may be shown now.

        Text after a stop string is dropped, and so is the string itself unless included. Text that is `early`, before
        `min_tokens`, completes no stop string, but may begin one that later text completes.
        """
        if self.stopped:
            return ""
        self._held += text
        if early:
            self._early = len(self._held)
        places = [(place, len(string)) for string in self._strings if (place := self._find(string)) >= 0]
        if places:
            place, length = min(places)
            self.found = self._held[place : place + length]
            return self._take(place + length if self._include else place, keep=False)
        return self._take(len(self._held) - self._may_begin())

    def finish(self) -> str:
        """The held-back text, which turned out to be no stop string."""
        return self._take(len(self._held))

    def _find(self, string: str) -> int:
        """Where a stop string begins that ends after early text; else -1."""
        return self._held.find(string, max(0, self._early - len(string) + 1))

    def _take(self, count: int, *, keep: bool = True) -> str:
        """Release the beginning of the held text; drop the rest unless kept."""
        shown, self._held = self._held[:count], self._held[count:] if keep else ""
        self._early = max(0, self._early - count)
        return shown

    def _may_begin(self) -> int:
        """Length of the longest held suffix that begins a stop string."""
        longest = max((len(string) - 1 for string in self._strings), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if self._held.endswith(tuple(string[:length] for string in self._strings if len(string) > length)):
                return length
        return 0
