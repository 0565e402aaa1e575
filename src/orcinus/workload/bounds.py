"""Checks of a workload's numbers, with one-line messages."""

from __future__ import annotations

import math

from orcinus.errors import ConfigError

MOST_TOKENS = 10**9  # tokens of one request: far above every model, far below 64 bits


def positive(name: str, value: float) -> None:
    """Raise `ConfigError` unless the value is a finite number above 0."""
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name} must be a finite number above 0, not {value}")


def not_negative(name: str, value: float) -> None:
    """Raise `ConfigError` unless the value is finite and at least 0."""
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigError(f"{name} must be a finite number of at least 0, not {value}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise `ConfigError` unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigError(f"{name} must be within {low} and {high}, not {value}")


def token_range(low: int, high: int) -> None:
    """Raise `ConfigError` unless 1 <= low <= high <= `MOST_TOKENS`."""
    within("low (in tokens)", low, 1, MOST_TOKENS)
    within("high (in tokens)", high, low, MOST_TOKENS)
