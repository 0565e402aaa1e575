"""The results file: a header and sections; replaced whole, never half written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from orcinus.errors import ConfigError

State = Literal["running", "done", "cut", "failed"]
ENDED = ("done", "cut")  # such a section is not run again unless it is asked for
Row = dict[str, Any]


class Results:
    """What is known so far. A section is `{state, message, until, seconds, commit, facts, tables}`, all plain JSON."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.header: dict[str, Any] = {}
        self.sections: dict[str, dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """Read the file, if there is one. Raises `ConfigError` for other contents."""
        if not self.file.exists():
            return
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            self.header, self.sections = found["header"], found["sections"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{self.file} holds no results of this benchmark: give another --out") from None

    def write(self) -> None:
        """Replace the file; NaN and infinities become null."""
        fresh = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        found = finite({"header": self.header, "sections": self.sections})
        fresh.write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
        fresh.replace(self.file)

    def check(self, device: str, toy: bool) -> None:
        """Raise `ConfigError` if the file is about another device, or about toys."""
        known = self.header.get("device"), self.header.get("toy")
        if self.sections and known != (device, toy):
            raise ConfigError(f"{self.file} holds results of {known[0]}, this is {device}: give another --out")

    def begin(self, name: str, until: float, commit: str | None) -> dict[str, Any]:
        """A section starts, and may run until this second since the epoch."""
        self.sections[name] = {"state": "running", "message": "", "until": until, "seconds": 0.0, "commit": commit}
        self.sections[name] |= {"facts": {}, "tables": {}}
        self.write()
        return self.sections[name]

    def end(self, name: str, state: State, message: str, seconds: float | None = None) -> None:
        """It is over, or never began."""
        empty: dict[str, Any] = {"facts": {}, "tables": {}, "seconds": 0.0}
        section = self.sections.setdefault(name, empty)
        section |= {"state": state, "message": message}
        if seconds is not None:
            section["seconds"] = seconds
        self.write()

    def forget(self, names: list[str], ended_too: bool) -> None:
        """Drop failed sections, and ended ones if asked, so that they run again."""
        for name in names:
            if name in self.sections and (ended_too or self.sections[name]["state"] not in ENDED):
                del self.sections[name]

    def fact(self, section: str, name: str) -> Any:
        """A single figure of a section; None if it was not measured."""
        return self.sections.get(section, {}).get("facts", {}).get(name)

    def rows(self, section: str, table: str) -> list[Row]:
        """A table of a section; empty if it was not measured."""
        found: list[Row] = self.sections.get(section, {}).get("tables", {}).get(table, [])
        return found

    @property
    def running(self) -> str | None:
        """The section that was begun and has not ended."""
        return next((name for name, section in self.sections.items() if section["state"] == "running"), None)


def finite(value: Any) -> Any:
    """The same with null for infinities and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
