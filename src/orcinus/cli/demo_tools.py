"""Two tools for demonstrations: a clock and a calculator."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

Run = Callable[[Mapping[str, Any]], str]  # the arguments of a call -> its result
OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
ZONES = ("UTC", "local")


def clock(arguments: Mapping[str, Any]) -> str:
    """The date and time in a zone. Raises `ValueError`."""
    if (zone := arguments.get("zone", "local")) not in ZONES:
        raise ValueError(f"zone must be one of {', '.join(ZONES)}")
    now = datetime.now(UTC)
    return (now if zone == "UTC" else now.astimezone()).strftime("%A, %d %B %Y, %H:%M:%S %Z")


def calculator(arguments: Mapping[str, Any]) -> str:
    """The result of one operation on two numbers. Raises `ValueError`."""
    a, b, sign = (arguments.get(name) for name in ("a", "b", "operator"))
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in (a, b)):
        raise ValueError("a and b must be numbers")
    if sign not in OPERATORS:
        raise ValueError(f"operator must be one of {' '.join(OPERATORS)}")
    try:
        found = OPERATORS[sign](a, b)  # type: ignore[arg-type]
    except (ZeroDivisionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    return f"{found:.12g}" if isinstance(found, float) else str(found)


def _function(name: str, description: str, required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


NUMBER = {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000}  # a very small model would never end a fraction
DEMO_TOOLS: list[tuple[dict[str, Any], Run]] = [  # definitions in OpenAI's form, and what runs them
    (_function("clock", "Tell the date and time.", ["zone"], zone={"enum": list(ZONES)}), clock),
    (
        _function(
            "calculator",
            "Calculate with two whole numbers.",
            ["a", "operator", "b"],
            a=NUMBER,
            operator={"enum": list(OPERATORS)},
            b=NUMBER,
        ),
        calculator,
    ),
]
