"""Origins, notes, cautions and doubts of simulations, as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

MOST = 5  # lines of one kind
CAUTION, DOUBT = "-", "[bold red]![/]"


def print_evidence(console: Console, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Print cautions and doubts once each, with the runs that have them."""
    for mark, kind in ((CAUTION, "cautions"), (DOUBT, "doubts")):
        having: dict[str, list[str]] = {}
        for name, record in records.items():
            for line in record.get(kind, ()):
                having.setdefault(line, []).append(name)
        for line, names in list(having.items())[:MOST]:
            print_line(console, mark, line if len(names) == len(records) else f"{'; '.join(names)}: {line}")
        if len(having) > MOST:
            print_line(console, mark, f"and {len(having) - MOST} more like these: --json has them all")


def print_lines(console: Console, mark: str, lines: Sequence[str]) -> None:
    """Print lines, one by one."""
    for line in lines:
        print_line(console, mark, line)


def print_line(console: Console, mark: str, line: str) -> None:
    """Print a line unwrapped, however narrow the terminal is."""
    console.print(f"{mark} {escape(line)}", soft_wrap=True)
