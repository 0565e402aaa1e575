"""All rows of the acceptance table."""

from __future__ import annotations

from collections.abc import Sequence

from orcinus.errors import ConfigError
from orcinus.papers import orca, sarathi, sarathi_serve
from orcinus.papers.row import Row

ROWS: dict[int, Row] = {
    row.number: row for row in sorted((*orca.ROWS, *sarathi.ROWS, *sarathi_serve.ROWS), key=lambda row: row.number)
}


def choose(numbers: Sequence[int]) -> list[Row]:
    """The rows of these numbers, or all of them. Raises `ConfigError` if one does not exist."""
    for wanted in numbers:
        if wanted not in ROWS:
            raise ConfigError(f"there is no row {wanted}: choose among {', '.join(map(str, ROWS))}")
    return [ROWS[wanted] for wanted in sorted(set(numbers))] if numbers else list(ROWS.values())
