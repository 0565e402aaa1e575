"""The test by which `tests.soak` tells a leak from noise."""

from __future__ import annotations

import numpy as np
import pytest

from tests.flatness import Allowed, flatness, slope

TIMES = np.arange(200.0)
NOISE = np.random.default_rng(0).normal(0, 5, 200)
ALLOWED = Allowed(0.03, 1.0)


def test_noise_and_wild_points_are_flat() -> None:
    values = 1000 + NOISE
    values[::20] += 900
    found = flatness(TIMES, values, ALLOWED)
    assert (found.flat, round(found.median, -1)) == (True, 1000)
    assert found.allowed == pytest.approx(30, rel=0.1)


def test_a_leak_is_found_below_the_noise_of_single_points() -> None:
    found = flatness(TIMES, 1000 + NOISE + 0.5 * TIMES, ALLOWED)
    assert not found.flat
    assert found.growth == pytest.approx(100, rel=0.2)


def test_a_step_and_the_end_of_a_warm_up_are_none() -> None:
    assert flatness(TIMES, 1000 + NOISE + 300 * (TIMES > 60), ALLOWED).flat
    assert flatness(TIMES, 1000 + NOISE + 300 * (1 - np.exp(-TIMES / 30)), ALLOWED).flat


def test_less_is_no_leak_and_small_counts_may_differ() -> None:
    assert flatness(TIMES, 1000 - TIMES, ALLOWED).flat
    assert flatness(TIMES, 3 + (TIMES > 50) * 0.5 + TIMES / 250, ALLOWED).flat


def test_too_few_points_say_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        flatness(TIMES[:10], TIMES[:10], ALLOWED)
    assert slope(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 100.0])) == 50


def test_points_of_one_moment_have_no_slope_between_them() -> None:
    """So it is with samples between which no request came."""
    assert slope(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 3.0, 3.0])) == 3
