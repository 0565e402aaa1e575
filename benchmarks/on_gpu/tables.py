"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from on_gpu.results import Row


def cell(column: str, value: Any) -> str:
    """A cell as text; a column that ends in `share` is in per cent."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.1%}" if column.endswith("share") else number(value)
    return str(value)


def number(value: float) -> str:
    """A number with about four significant digits."""
    size = abs(value)
    if value == 0 or 1000 <= size < 1e15:
        return f"{value:,.0f}"
    if size < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}"


def text_table(title: str, rows: Sequence[Row]) -> str:
    """Rows as a text table; words stand left, numbers right."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[cell(column, row.get(column)) for column in columns] for row in rows]
    heads = [column.replace("_", " ") for column in columns]
    words = [any(isinstance(row.get(column), str) for row in rows) for column in columns]
    widths = [max(map(len, each)) for each in zip(heads, *cells, strict=True)] if columns else []

    def line(each: Sequence[str]) -> str:
        parts = [
            text.ljust(width) if word else text.rjust(width) for text, width, word in zip(each, widths, words, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([title, "", line(heads), line(["-" * width for width in widths]), *map(line, cells), ""])


def text_facts(facts: Row) -> str:
    """A line for each figure that stands alone."""
    width = max(map(len, facts), default=0)
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {cell(name, value)}" for name, value in facts.items())
