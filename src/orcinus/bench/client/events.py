"""Server-sent events from bytes cut anywhere (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

BOM = b"\xef\xbb\xbf"
MOST_BYTES = 4 * 2**20  # of one line: a frame is a thousandth of that


class SSEDecoder:
    """The data of complete events; other fields and comments are ignored."""

    __slots__ = ("_after_cr", "_begun", "_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""  # of a line
        self._data: list[bytes] = []  # of an event
        self._after_cr = False  # the last line ended with CR: a following LF belongs to it
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that these bytes complete.

        Raises `ValueError` for a line that does not end.
        """
        if not data:
            return []
        if self._after_cr:
            data = data.removeprefix(b"\n")
        text = self._rest + data if self._rest else data
        if not self._begun:
            if len(text) < len(BOM) and BOM.startswith(text):
                self._rest = text
                return []
            text, self._begun = text.removeprefix(BOM), True
        self._after_cr = text.endswith(b"\r")
        lines = text.splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if len(self._rest) > MOST_BYTES:
            raise ValueError(f"a line of more than {MOST_BYTES} bytes")
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        found = []
        for line in lines:
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data.clear()
            elif line == b"data":
                self._data.append(b"")
        return found
