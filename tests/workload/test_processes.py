"""When requests come: rates, burstiness, and the same pattern at every rate."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.component_spec import make
from orcinus.errors import ConfigError
from orcinus.workload.processes import ARRIVALS, Closed, Process

RATES = st.floats(0.01, 1000)


def moments(spelled: str, count: int, seed: int = 0) -> list[float]:
    process: Process = make("arrival process", ARRIVALS, spelled)
    return list(islice(process.moments(np.random.default_rng(seed)), count))


@pytest.mark.parametrize(
    ("spelled", "rate", "cv"),
    [
        ("poisson:rate=4", 4, 1),
        ("gamma:rate=4:cv=1", 4, 1),
        ("gamma:rate=4:cv=3", 4, 3),
        ("gamma:rate=0.5:cv=0.2", 0.5, 0.2),
        ("constant:rate=8", 8, 0),
        ("azure-conversation", 5.53, 1.094),
        ("azure-conversation:rate=2", 2, 1.094),
    ],
)
def test_rate_and_burstiness_are_those_asked_for(spelled: str, rate: float, cv: float) -> None:
    gaps = np.diff(moments(spelled, 100_000))
    assert 1 / gaps.mean() == pytest.approx(rate, rel=0.04)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.04, abs=1e-6)


def test_poisson_counts_vary_as_much_as_their_mean() -> None:
    counts = np.bincount(np.floor(moments("poisson:rate=10", 100_000)).astype(int))[:-1]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.05)


def test_a_clock_starts_at_once() -> None:
    assert moments("constant:rate=4", 4) == [0, 0.25, 0.5, 0.75]


def test_all_at_once_is_all_at_once() -> None:
    assert moments("all-at-once", 5) == [0.0] * 5


@pytest.mark.parametrize("word", ["ramp:start=0:end=20:seconds=100", "ramp:start=20:end=1:seconds=100"])
def test_a_ramp_has_the_rate_of_its_moment(word: str) -> None:
    """Expected counts of a window are the area under the rate; a Poisson count is within five standard deviations."""
    start, end, seconds = (float(option.split("=")[1]) for option in word.split(":")[1:])
    found = np.array(moments(word, 5000))
    for low, high in ((0, 10), (45, 55), (90, 100), (100, 110), (120, 140)):
        middle = start + (end - start) * min(seconds, (low + high) / 2) / seconds
        expected = middle * (high - low)
        assert abs(((found >= low) & (found < high)).sum() - expected) < 5 * expected**0.5 + 1


@given(RATES, st.integers(0, 99))
def test_a_level_ramp_is_poisson(rate: float, seed: int) -> None:
    ramp = moments(f"ramp:start={rate!r}:end={rate!r}:seconds=3", 200, seed)
    np.testing.assert_allclose(ramp, moments(f"poisson:rate={rate!r}", 200, seed), rtol=1e-9)


@given(st.sampled_from(["poisson:rate={}", "gamma:rate={}:cv=2", "constant:rate={}"]), RATES, st.integers(0, 99))
def test_the_same_seed_is_the_same_pattern_at_every_rate(word: str, rate: float, seed: int) -> None:
    slow, fast = moments(word.format(1), 300, seed), moments(word.format(repr(rate)), 300, seed)
    np.testing.assert_allclose(np.array(fast) * rate, slow, rtol=1e-12)


@given(
    st.sampled_from(
        [
            "poisson:rate=3",
            "gamma:rate=3:cv=5",
            "gamma:rate=3:cv=0.1",
            "ramp:start=0:end=9:seconds=5",
            "ramp:start=9:end=1:seconds=5",
        ]
    ),
    st.integers(0, 2**32),
)
def test_time_never_goes_back(word: str, seed: int) -> None:
    found = moments(word, 5000, seed)  # more than one block of draws
    assert found[0] >= 0
    assert all(before <= after for before, after in pairwise(found))


def test_thinking_takes_its_time_on_average() -> None:
    pauses = np.array(list(islice(Closed(1, think=2.0).pauses(np.random.default_rng(0)), 50_000)))
    assert pauses.mean() == pytest.approx(2.0, rel=0.03)
    assert list(islice(Closed(1).pauses(np.random.default_rng(0)), 3)) == [0, 0, 0]


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("poisson", "arrival process 'poisson' needs rate: write poisson:rate=..."),
        ("poisson:rate=0", r"rate \(requests per second\) must be a finite number above 0, not 0.0"),
        ("poisson:rate=-2", "must be a finite number above 0"),
        ("poisson:rate=nan", "must be a finite number above 0"),
        ("gamma:rate=inf:cv=1", "must be a finite number above 0"),
        ("gamma:rate=1:cv=0", r"cv \(of the gaps\) must be within 0.01 and 100, not 0.0"),
        ("constant:rate=0", "must be a finite number above 0"),
        ("azure-conversation:rate=0", "must be a finite number above 0"),
        ("ramp:start=-1:end=1:seconds=1", r"start \(requests per second\) must be a finite number of at least 0"),
        ("ramp:start=1:end=0:seconds=1", r"end \(requests per second\) must be a finite number above 0"),
        ("ramp:start=1:end=1:seconds=0", r"seconds \(of the ramp\)"),
        ("closed:clients=0", "a closed loop needs at least 1 client, not 0"),
        ("closed:clients=1:think=nan", r"think \(seconds\)"),
        ("all-at-once:rate=1", "cannot take 'rate=1': it has no options"),
        ("poison:rate=1", "unknown arrival process 'poison': choose poisson, gamma"),
    ],
)
def test_what_cannot_arrive_is_refused(spelled: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("arrival process", ARRIVALS, spelled)
