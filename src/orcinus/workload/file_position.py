"""A file position, for messages about bad values and skipped rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, TypeVar

from orcinus.errors import ConfigError, RequestError
from orcinus.workload.bounds import MOST_TOKENS

T = TypeVar("T")


@dataclass(slots=True)
class Skipped:
    """Rows of a trace that were skipped as unusable."""

    rows: int = 0
    first: str = ""  # the first one's mistake and place

    def add(self, error: Exception) -> None:
        """Count one more skipped row."""
        self.first = self.first or str(error)
        self.rows += 1

    def clear(self) -> None:
        """Start counting anew, for another reading."""
        self.rows, self.first = 0, ""

    @property
    def said(self) -> str:
        """All skipped rows in one line; empty if there are none."""
        rows = "1 row of the trace was" if self.rows == 1 else f"{self.rows} rows of the trace were"
        return f"{rows} skipped; the first: {self.first}" if self.rows else ""


@dataclass(slots=True)
class FilePosition:
    """A file and a line of it; readers advance it.

    With `skipped`, bad rows are counted there and skipped; without, a bad row ends the reading.
    """

    file: str
    line: int = 1
    unit: str = "line"
    skipped: Skipped | None = None

    def wrong(self, what: str) -> ConfigError:
        """The error to raise at this position."""
        return ConfigError(f"{self.unit} {self.line} of {self.file}: {what}")

    def attempt(self, read: Callable[..., T], *row: Any) -> T | None:
        """A row's value; None for a bad row that is skipped.

        Raises `ConfigError` if bad rows are not to be skipped.
        """
        try:
            return read(*row)
        except (ConfigError, RequestError) as error:  # the latter is a tokenizer's
            if self.skipped is None:
                raise
            self.skipped.add(error)
            return None

    def lines(self, file: Iterable[str]) -> Iterator[str]:
        """The non-empty lines; invalid UTF-8 makes only its own line bad."""
        for self.line, line in enumerate(file, 1):
            if line.isspace():
                continue
            text = line if line.isascii() else self.attempt(self.text, line)
            if text is not None:
                yield text

    def text(self, text: str) -> str:
        """The text itself. Raises `ConfigError` if it was not valid UTF-8."""
        if any("\udc80" <= letter <= "\udcff" for letter in text):
            raise self.wrong("it is no text in UTF-8")
        return text

    def value(self, fields: Mapping[str, object], name: str) -> object:
        """A field of a row. Raises `ConfigError` if it is missing."""
        if name not in fields:
            raise self.wrong(f"{name} is missing")
        return fields[name]

    def tokens(self, fields: Mapping[str, object], name: str) -> int:
        """A token count of at least 1. Raises `ConfigError`."""
        number = self._number(fields, name)
        if not (1 <= number <= MOST_TOKENS and number == int(number)):
            raise self.wrong(f"{name} must be a whole number of tokens of at least 1, not {short(fields[name])}")
        return int(number)

    def seconds(self, fields: Mapping[str, object], name: str) -> float:
        """A time of at least 0, in the file's unit. Raises `ConfigError`."""
        number = self._number(fields, name)
        if not (number >= 0 and math.isfinite(number)):
            raise self.wrong(f"{name} must be a finite time of at least 0, not {short(fields[name])}")
        return number

    def _number(self, fields: Mapping[str, object], name: str) -> float:
        value = self.value(fields, name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except (ValueError, OverflowError):
                pass
        raise self.wrong(f"{name} must be a number, not {short(value)}")
