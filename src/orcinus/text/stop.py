"""Stop strings: text that may be the beginning of one is held back until it no longer can be."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """A filter between a detokenizer and a reader. `stopped` turns true when one of the strings is complete."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """The part of what came so far that may be shown; nothing after a stop string, and never the string itself."""
        if self.stopped:
            return ""
        self._held += text
        places = [place for place in map(self._held.find, self._strings) if place >= 0]
        if places:
            self.stopped = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        keep = self._may_begin()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back and turned out not to be a stop string."""
        held, self._held = self._held, ""
        return held

    def _may_begin(self) -> int:
        """Length of the longest end of the held text that is the beginning of a stop string."""
        longest = max((len(string) - 1 for string in self._strings), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if self._held.endswith(tuple(string[:length] for string in self._strings if len(string) > length)):
                return length
        return 0
