"""How large files, classes and functions may be."""

from __future__ import annotations

import ast
import statistics

from tests.architecture.source import FILES, TREES, Function, length, part

MOST_LINES_OF_A_CLASS = {"core": 200}  # by package
ELSEWHERE = 225
LONGER: dict[str, int] = {}


def test_files_have_at_most_400_lines() -> None:
    assert not [file.name for file in FILES if len(file.read_text(encoding="utf-8").splitlines()) > 400]


def test_functions_have_at_most_60_lines_and_the_median_is_short() -> None:
    functions = [(name, node) for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, Function)]
    assert not [f"{name}.{node.name}" for name, node in functions if length(node) > 60]
    assert statistics.median(length(node) for _, node in functions) < 10


def test_classes_are_short() -> None:
    long = {
        f"{name}.{node.name}": length(node)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and length(node) > MOST_LINES_OF_A_CLASS.get(part(name) or "", ELSEWHERE)
    }
    assert {name for name, lines in long.items() if lines > LONGER.get(name, 0)} == set()
    assert set(LONGER) <= set(long), "an exception that is none any more"
