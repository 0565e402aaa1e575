"""Margins of forecasts: a quantile of their own errors."""

from __future__ import annotations

import random

import pytest

from orcinus.core.forecast_errors import ForecastErrors


class Promises:
    """Promises one after the other, as no two wait at the same time."""

    def __init__(self, at_first: float = 0.0) -> None:
        self.errors, self.now = ForecastErrors(at_first), 0.0

    def add(self, *errors: float, predicted: float = 0.01) -> None:
        for error in errors:
            self.now += predicted + error + 1e-6
            self.errors.add(self.now, predicted + error, predicted, 1.0)

    def margin(self, predicted: float = 0.01) -> float:
        return self.errors.margin(predicted, 1.0)


def test_doubts_of_waits_end_when_waits_were_seen() -> None:
    promises = Promises(1.0)
    assert promises.margin(0.2) == pytest.approx(0.3), "at first a wait may take twice as long, and a tenth of the bound"
    promises.add(*[0.0] * 100)
    assert promises.margin(0.2) == pytest.approx(0.3), "requests that did not wait say nothing about waits"
    promises.add(*[0.0] * 18, predicted=0.2)
    assert promises.margin(0.2) == pytest.approx(0.12), "of which two fifths are left after eighteen waits"
    promises.now += 60
    promises.add(0.0)
    assert promises.margin(0.2) == pytest.approx(0.3), "a minute later the machine may be another"


def test_errors_widen_the_margin_until_they_are_forgotten() -> None:
    promises = Promises()
    promises.add(*[0.01] * 9, 0.05)
    assert promises.margin() == pytest.approx(0.05 * 6.91 / 2.93, rel=0.01), "the largest of ten is no 99th percentile"
    promises.add(*[0.01] * 1000)
    assert promises.margin() == pytest.approx(0.01), "one in a thousand may be later"
    promises.add(0.05)
    assert promises.margin() == pytest.approx(0.05), "but not two"
    promises.now += 60
    promises.add(0.0)
    assert promises.margin() == 0, "the machine was disturbed, a minute ago"


def test_only_so_many_promises_are_remembered() -> None:
    errors = ForecastErrors(0.0)
    errors.add(0.0, 0.5, 0.1, 1.0)
    for number in range(1023):
        errors.add(0.01 * number, 0.1, 0.1, 1.0)
    assert errors.margin(0.1, 1.0) > 0.4
    errors.add(20.0, 0.1, 0.1, 1.0)
    assert errors.margin(0.1, 1.0) == 0


def test_promises_that_wait_together_are_one_observation() -> None:
    apart, together = Promises(), ForecastErrors(0.0)
    for number in range(1000):
        apart.add(0.05 if number == 0 else 0.0, predicted=0.05)
        together.add(5.0 * (number // 100), 0.15 if number == 0 else 0.1, 0.1, 1.0)
    assert apart.margin(0.05) == pytest.approx(0.0), "one in a thousand"
    assert together.margin(0.1, 1.0) == pytest.approx(0.05 * 6.91 / 2.93, rel=0.01), "one wait of ten, in which many were late"


def test_errors_of_short_waits_say_little_about_long_ones() -> None:
    promises = Promises()
    promises.add(*[0.1] * 300, predicted=0.05)
    assert 0.1 <= promises.margin(0.5) < 0.3, "in units of 0.05 s it would be 1 s"
    assert promises.margin(0.05) == pytest.approx(0.1 * 6.91 / 6.28, rel=0.01)


@pytest.mark.parametrize("grows", [0.0, 1.0], ids=["pauses of the machine", "errors that grow with the wait"])
def test_ninety_nine_of_a_hundred_are_within_the_margin(grows: float) -> None:
    draw, errors, late = random.Random(1), ForecastErrors(1.0), 0
    for number in range(6000):
        wait = draw.uniform(0.0, 0.5)
        measured = wait + draw.expovariate(20) * (1 - grows + grows * wait)
        late += number >= 1000 and measured > wait + errors.margin(wait, 1.0)
        errors.add(0.05 * number, measured, wait, 1.0)
    assert late / 5000 < 0.01
