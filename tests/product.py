"""Products of choices: `make test` runs a part in which everything occurs, and `make test-all` every combination."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest


def product(*axes: Iterable[Hashable], name: Callable[..., str] | None = None) -> list[Any]:
    """All combinations as parameters of a test; those outside `pairwise` are marked `full`. `name` gives their ids."""
    return _parameters([tuple(axis) for axis in axes], pairwise(*axes), name)


def in_turn(*axes: Iterable[Hashable]) -> list[Any]:
    """All combinations; `make test` runs as few as hold every value of every axis."""
    values = [tuple(axis) for axis in axes]
    rows = [tuple(axis[row % len(axis)] for axis in values) for row in range(max(map(len, values)))]
    return _parameters(values, rows, None)


def _parameters(axes: list[tuple[Any, ...]], chosen: list[tuple[Any, ...]], name: Callable[..., str] | None) -> list[Any]:
    name = name or (lambda *row: "-".join(map(str, row)))
    rows = set(chosen)
    return [
        pytest.param(*row, id=name(*row), marks=() if row in rows else pytest.mark.full) for row in itertools.product(*axes)
    ]


def part(*few: Any, full: Iterable[Any]) -> list[Any]:
    """Parameters of a slow test: a few in which everything occurs, and those that run in `make test-all` alone."""
    return [*few, *(pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.full) for each in full)]


def pairwise(*axes: Iterable[Hashable]) -> list[tuple[Any, ...]]:
    """Rows in which every two values of different axes meet (a covering array of strength 2), greedily few."""
    rows = {row: set(itertools.combinations(enumerate(row), 2)) for row in itertools.product(*axes)}
    missing = set[tuple[Any, ...]]().union(*rows.values())
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(rows[row] & missing))
        chosen.append(best)
        missing -= rows.pop(best)
    return chosen


def spread(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """As few of these tests as hold every row of every `parametrize` mark, and every value of every fixture."""
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    chosen: set[pytest.Item] = set()
    for alike in functions.values():
        if len(alike) == 1:
            chosen.update(alike)
            continue
        variants = [(item, _rows(item)) for item in alike]
        missing = set[Hashable]().union(*(rows for _, rows in variants))
        while missing:
            item, rows = max(variants, key=lambda variant: len(variant[1] & missing))
            chosen.add(item)
            missing -= rows
    return chosen


def _rows(item: pytest.Item) -> set[Hashable]:
    """What a test is given by each mark and each fixture; a test that is given nothing has one row, too."""
    callspec = getattr(item, "callspec", None)
    given = dict(callspec.params) if callspec is not None else {}
    rows: set[Hashable] = {"alone"}
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0].replace(" ", "").split(",") if isinstance(mark.args[0], str) else mark.args[0]
        rows.add(tuple((name, id(given.pop(name))) for name in names if name in given))
    return rows | {(name, id(value)) for name, value in given.items()}
