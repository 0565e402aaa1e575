"""Where in a file a reader is, and what it says about a value that cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as short

from orcinus.errors import ConfigError
from orcinus.workload.bounds import MOST_TOKENS


@dataclass(slots=True)
class Place:
    """A file and a line of it. Readers move it on, so that every complaint names the place."""

    file: str
    line: int = 1
    unit: str = "line"

    def wrong(self, what: str) -> ConfigError:
        """The error to raise here."""
        return ConfigError(f"{self.unit} {self.line} of {self.file}: {what}")

    def value(self, fields: Mapping[str, object], name: str) -> object:
        """One field. Raises `ConfigError` if it is missing."""
        if name not in fields:
            raise self.wrong(f"{name} is missing")
        return fields[name]

    def tokens(self, fields: Mapping[str, object], name: str) -> int:
        """A length in tokens: a whole number of at least 1, as a number or as text. Raises `ConfigError`."""
        number = self._number(fields, name)
        if not (1 <= number <= MOST_TOKENS and number == int(number)):
            raise self.wrong(f"{name} must be a whole number of tokens of at least 1, not {short(fields[name])}")
        return int(number)

    def seconds(self, fields: Mapping[str, object], name: str) -> float:
        """A moment of at least 0, in the unit of the file. Raises `ConfigError`."""
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
