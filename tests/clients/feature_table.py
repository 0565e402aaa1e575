"""The table of clients and features in docs/clients.md, written by `python -m tests.clients.run --write`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.clients.report import FEATURES

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
BEGIN = "<!-- begin: made by python -m tests.clients.run --write -->"
END = "<!-- end -->"
HEAD = ("client", "version", *FEATURES, "tried")


@dataclass(frozen=True)
class FeatureRow:
    """What came of one client's checks, by feature."""

    title: str
    version: str
    features: Mapping[str, bool]  # of those that it has: whether all checks passed
    date: str  # YYYY-MM-DD

    def cells(self) -> tuple[str, ...]:
        """The row's texts, in the order of `HEAD`."""
        verdicts = ({True: "pass", False: "FAIL", None: "–"}[self.features.get(feature)] for feature in FEATURES)
        return (self.title, self.version, *verdicts, self.date)


def plain(rows: Iterable[FeatureRow]) -> str:
    """The table for a terminal, in columns."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def markdown(rows: Iterable[tuple[str, ...]]) -> str:
    """The table for the page."""
    lines = [HEAD, tuple("---" for _ in HEAD), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def merged(text: str, rows: Iterable[FeatureRow], order: Iterable[str]) -> str:
    """The page with these rows in place of earlier ones of the same clients.

    Rows of clients that are not in `order` are dropped. Raises `ValueError` if the page lacks its marks.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{PAGE.name} needs the lines {BEGIN} and {END}, once each")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    found = {cells[0]: cells for line in old.splitlines() if len(cells := cells_of(line)) == len(HEAD)}
    found |= {row.title: row.cells() for row in rows}
    table = markdown(found[title] for title in order if title in found)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def cells_of(line: str) -> tuple[str, ...]:
    """The cells of a row of a Markdown table."""
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
