"""A position in a file, for messages about bad values and skipped rows."""

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
    first: str = ""  # what was wrong with the first of them, and where

    def add(self, error: Exception) -> None:
        """One more."""
        self.first = self.first or str(error)
        self.rows += 1

    def clear(self) -> None:
        """A new reading begins."""
        self.rows, self.first = 0, ""

    @property
    def said(self) -> str:
        """The whole in one line; empty if every row was good."""
        rows = "1 row of the trace was" if self.rows == 1 else f"{self.rows} rows of the trace were"
        return f"{rows} skipped; the first: {self.first}" if self.rows else ""


@dataclass(slots=True)
class FilePosition:
    """A file and a line of it; readers advance it.

    With `skipped`, a row that is wrong is counted there and passed over; without, it ends the reading.
    """

    file: str
    line: int = 1
    unit: str = "line"
    skipped: Skipped | None = None

    def wrong(self, what: str) -> ConfigError:
        """The error to raise here."""
        return ConfigError(f"{self.unit} {self.line} of {self.file}: {what}")

    def attempt(self, read: Callable[..., T], *row: Any) -> T | None:
        """The value of a row; None if the row is bad and skipped.

        Raises `ConfigError` if bad rows are refused.
        """
        try:
            return read(*row)
        except (ConfigError, RequestError) as error:  # the latter is a tokenizer's
            if self.skipped is None:
                raise
            self.skipped.add(error)
            return None

    def lines(self, file: Iterable[str]) -> Iterator[str]:
        """The lines that are not empty; bytes that are no UTF-8 spoil one."""
        for self.line, line in enumerate(file, 1):
            if line.isspace():
                continue
            text = line if line.isascii() else self.attempt(self.text, line)
            if text is not None:
                yield text

    def text(self, text: str) -> str:
        """The same text. Raises `ConfigError` if it was no UTF-8."""
        if any("\udc80" <= letter <= "\udcff" for letter in text):
            raise self.wrong("it is no text in UTF-8")
        return text

    def value(self, fields: Mapping[str, object], name: str) -> object:
        """One field. Raises `ConfigError` if it is missing."""
        if name not in fields:
            raise self.wrong(f"{name} is missing")
        return fields[name]

    def tokens(self, fields: Mapping[str, object], name: str) -> int:
        """A length in whole tokens, at least 1. Raises `ConfigError`."""
        number = self._number(fields, name)
        if not (1 <= number <= MOST_TOKENS and number == int(number)):
            raise self.wrong(f"{name} must be a whole number of tokens of at least 1, not {short(fields[name])}")
        return int(number)

    def seconds(self, fields: Mapping[str, object], name: str) -> float:
        """A moment of at least 0, in the file's unit. Raises `ConfigError`."""
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
