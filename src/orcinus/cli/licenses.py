"""`orcinus licenses`: the licences of all that is installed with Orcinus."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from orcinus.licenses import Dependency, LicenseKind, dependencies

WIDEST = 50  # characters of a licence in the table


def licenses(as_json: Annotated[bool, typer.Option("--json", help="A JSON object per package.")] = False) -> None:
    """List the installed dependencies, those of extras included, with their licences.

    Exit status 1 if a licence is unknown, or neither on the allow list nor an accepted exception.
    """
    found = dependencies()
    if as_json:
        for one in found:
            print(json.dumps(asdict(one)))
    else:
        _print_table(found)
        for one in found:
            if one.kind is not LicenseKind.PERMISSIVE:
                print(f"{one.name} is {one.license} ({one.kind}): {_verdict(one)}")
        print(f"{len(found)} packages, {sum(not one.allowed for one in found)} of them not allowed")
    if not all(one.allowed for one in found):
        raise typer.Exit(1)


def _print_table(found: list[Dependency]) -> None:
    """A line per package."""
    rows = [
        (one.name, one.version, _cut(one.license), "" if one.kind is LicenseKind.PERMISSIVE else one.kind.value)
        for one in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for one, row in zip(found, rows, strict=True):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), one.home, sep="  ")


def _cut(text: str) -> str:
    """A licence that fits into a column; `--json` has it whole."""
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _verdict(one: Dependency) -> str:
    if one.kind is LicenseKind.WEAK_COPYLEFT:
        return "allowed, it binds changes of its own files alone"
    return f"accepted, {one.accepted}" if one.accepted else "not allowed: see src/orcinus/licenses.py"
