"""The clock and the calculator of `orcinus chat --tools demo`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orcinus.cli.demo_tools import calculator, clock


@pytest.mark.parametrize(
    ("a", "sign", "b", "result"),
    [(2, "+", 3, "5"), (2, "-", 3, "-1"), (6, "*", 7, "42"), (1, "/", 3, "0.333333333333"), (0.1, "+", 0.2, "0.3")],
)
def test_the_calculator_calculates(a: float, sign: str, b: float, result: str) -> None:
    assert calculator({"a": a, "operator": sign, "b": b}) == result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a and b must be numbers"),
        ({"a": "__import__('os')", "operator": "+", "b": 1}, "a and b must be numbers"),
        ({"a": True, "operator": "+", "b": 1}, "a and b must be numbers"),
        ({"a": 2, "operator": "**", "b": 10**9}, "operator must be one of"),
        ({"a": 1, "operator": "/", "b": 0}, "division by zero"),
        ({"a": 10**400, "operator": "/", "b": 3}, "too large"),
    ],
)
def test_what_it_cannot_calculate_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calculator(arguments)


def test_the_clock_knows_the_time() -> None:
    said = datetime.strptime(clock({"zone": "UTC"}), "%A, %d %B %Y, %H:%M:%S UTC").replace(tzinfo=UTC)
    assert timedelta(0) <= datetime.now(UTC) - said < timedelta(minutes=1)
    assert str(datetime.now().year) in clock({})
    with pytest.raises(ValueError, match="zone must be one of UTC, local"):
        clock({"zone": "Mars"})
