"""The trust figures of docs/simulator.md are those of docs/papers.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PERCENT = re.compile(r"([+-]\d+(?:\.\d+)?)(?= ?%| to)")


def claims() -> list[tuple[list[int], list[float], str]]:
    """Rows of papers.md that a line of the trust table names, and the errors that it says."""
    text = (DOCS / "simulator.md").read_text().split("## How far to trust it")[1].split("\n## ")[0]
    found = []
    for line in text.splitlines():
        for said, rows in re.findall(r"([^|(;]+)\((?:[^()|]*, )?rows? ([\d, and]+)\)", line):
            found.append(
                ([int(row) for row in re.findall(r"\d+", rows)], [float(each) for each in PERCENT.findall(said)], line)
            )
    return found


def errors(row: int) -> list[float]:
    section = (DOCS / "papers.md").read_text().split(f"\n### Row {row}: ")[1].split("\n### ")[0].split("\n## ")[0]
    return [float(each) for each in re.findall(r"\| ([+-]\d+\.\d)% \|", section)]


@pytest.mark.parametrize(("rows", "said", "line"), claims(), ids=lambda value: str(value)[:30])
def test_the_worst_errors_of_the_rows_are_those_that_are_said(rows: list[int], said: list[float], line: str) -> None:
    found = [error for row in rows for error in errors(row)]
    assert said, line
    assert all(error in found for error in said), f"{said} of {sorted(found)}"
    worst = max(found, key=abs)
    assert worst in said or worst in [float(each) for each in PERCENT.findall(line)], f"{worst} is not in: {line}"


def test_all_lines_with_rows_are_looked_at() -> None:
    assert {row for rows, _, _ in claims() for row in rows} >= {1, 2, 5, 10, 18, 23, 25, 26, 27}
