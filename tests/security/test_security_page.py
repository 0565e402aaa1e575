"""Every claim of docs/security.md has its test, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def claims() -> list[tuple[str, str]]:
    """The rows of the tables whose second column is `tests`."""
    found, inside = [], False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if cells[:2] == ["claim", "tests"]:
            inside = True
        elif not cells:
            inside = False
        elif inside and not set(line) <= set("|-"):
            found.append((cells[0], " | ".join(cells[1:])))
    return found


@cache
def functions_of(file: str) -> set[str]:
    path = ROOT / file
    return (
        {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
        if path.is_file()
        else set()
    )


@pytest.mark.parametrize(("claim", "named"), claims(), ids=lambda cell: cell[:40])
def test_a_claim_has_its_test(claim: str, named: str) -> None:
    tests = TEST.findall(named)
    assert tests, claim
    assert named == ", ".join(f"`{file}::{name}`" for file, name in tests)
    missing = [f"{file}::{name}" for file, name in tests if name not in functions_of(file)]
    assert missing == []


def test_all_claims_are_looked_at() -> None:
    assert len(claims()) >= 45
    assert len(TEST.findall(PAGE)) == sum(len(TEST.findall(named)) for _, named in claims())
