"""Margins of forecasts: a quantile of their own errors."""

from __future__ import annotations

import random

import pytest

from orcinus.core.forecast_errors import ForecastErrors


def errors_of(*errors: float, at: float = 0.0, predicted: float = 0.1) -> ForecastErrors:
    found = ForecastErrors(0.0)
    for error in errors:
        found.add(at, predicted + error, predicted, 1.0)
    return found


def test_errors_widen_the_margin_until_they_are_forgotten() -> None:
    errors = ForecastErrors(1.0)
    assert errors.margin(0.1, 1.0) == pytest.approx(0.2), "at first a forecast may be wrong by a factor of two"
    for _ in range(9):
        errors.add(0.0, 0.11, 0.1, 1.0)
    assert errors.margin(0.1, 1.0) == pytest.approx(0.08), "of which two fifths are left after nine promises"
    errors.add(0.0, 0.16, 0.1, 1.0)
    assert errors.margin(0.1, 1.0) == pytest.approx(0.06 * 4.96 / 2.93, rel=0.01), "the largest of ten is no 99th percentile"
    errors = errors_of(*[0.01] * 256)
    assert errors.margin(0.1, 1.0) == pytest.approx(0.01)
    for _ in range(3):
        errors.add(0.0, 0.5, 0.1, 1.0)
    assert errors.margin(0.1, 1.0) == pytest.approx(0.4)
    for _ in range(256):
        errors.add(0.0, 0.1, 0.1, 1.0)
    assert errors.margin(0.1, 1.0) == 0
    for at in (1.0, 1.0, 1.0, 30.0):
        errors.add(at, 0.5, 0.1, 1.0)
    assert errors.margin(0.1, 1.0) == pytest.approx(0.4)
    errors.add(100.0, 0.1, 0.1, 1.0)
    assert errors.margin(0.1, 1.0) == 0, "the machine was disturbed for a minute, long ago"


def test_errors_of_short_waits_say_little_about_long_ones() -> None:
    errors = errors_of(*[0.3] * 256, predicted=0.05)
    assert 0.3 <= errors.margin(0.5, 1.0) < 0.75, "in units of 0.05 s it would be 3 s"
    assert errors.margin(0.05, 1.0) == pytest.approx(0.3)


@pytest.mark.parametrize("grows", [0.0, 1.0], ids=["pauses of the machine", "errors that grow with the wait"])
def test_ninety_nine_of_a_hundred_are_within_the_margin(grows: float) -> None:
    draw, errors, late = random.Random(1), ForecastErrors(1.0), 0
    for number in range(6000):
        wait = draw.uniform(0.0, 0.5)
        measured = wait + draw.expovariate(20) * (1 - grows + grows * wait)
        late += number >= 1000 and measured > wait + errors.margin(wait, 1.0)
        errors.add(0.0, measured, wait, 1.0)
    assert late / 5000 < 0.015
