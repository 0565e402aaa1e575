"""Products of choices: every two values meet in `make test`, and every combination runs in `make test-all`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest


def product(*axes: Iterable[Hashable], name: Callable[..., str] | None = None) -> list[Any]:
    """All combinations as parameters of a test; those outside `pairwise` are marked `full`. `name` gives their ids."""
    sizes = [tuple(axis) for axis in axes]
    chosen = set(pairwise(*sizes))
    name = name or (lambda *row: "-".join(map(str, row)))
    return [
        pytest.param(*row, id=name(*row), marks=() if row in chosen else pytest.mark.full) for row in itertools.product(*sizes)
    ]


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
