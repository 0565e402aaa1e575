"""Metrics of runs whose moments are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.bench.measure import gaps, is_good, metrics, read_slo, tpot, ttft
from orcinus.bench.record import Iteration, RequestOutcome
from orcinus.core.slo import SLO
from orcinus.errors import ConfigError
from tests.bench.made_up_runs import lost, repeat, request


def test_latencies_of_one_request() -> None:
    """Sent at 1, tokens at 1.5, 1.6, 1.8 and 2.0."""
    one = request(0, 1.0, (1.5, 1.6, 1.8, 2.0), prompt=30)
    assert ttft(one) == pytest.approx(0.5)
    assert gaps(one) == pytest.approx([0.1, 0.2, 0.2])
    assert tpot(one) == pytest.approx(0.5 / 3)
    found = metrics(repeat(one))
    assert found["e2e.mean"] == pytest.approx(1.0)
    assert found["tbt.p50"] == pytest.approx(0.2)
    assert found["request_throughput"] == pytest.approx(1.0)
    assert found["prompt_throughput"] == pytest.approx(30.0)
    assert found["output_throughput"] == pytest.approx(4.0)
    assert found["total_throughput"] == pytest.approx(34.0)


def test_time_between_tokens_is_pooled_over_tokens_and_time_per_token_over_requests() -> None:
    """One request with one slow gap, one with nine fast ones."""
    slow, fast = request(0, 0.0, (0.0, 1.0)), request(1, 0.0, [0.1 * k for k in range(10)])
    found = metrics(repeat(slow, fast))
    assert found["tbt.mean"] == pytest.approx((1.0 + 0.9) / 10)
    assert found["tpot.mean"] == pytest.approx((1.0 + 0.1) / 2)


def test_throughput_counts_from_the_first_request_to_the_last_ending() -> None:
    found = metrics(repeat(request(0, 2.0, (3.0,)), request(1, 4.0, (6.0,))))
    assert found["request_throughput"] == pytest.approx(2 / 4)


def test_what_was_not_served_counts_as_that_and_as_nothing_else() -> None:
    served, refused = request(0, 0.0, (0.5, 1.0)), lost(1, RequestOutcome.REJECTED)
    found = metrics(repeat(served, refused))
    assert (found["requests"], found["not_served"]) == (1, 1)
    assert found["request_throughput"] == pytest.approx(1.0)
    assert found["ttft.p99"] == pytest.approx(0.5)


def test_without_counts_there_is_no_rate_of_tokens() -> None:
    """A server that never says how many tokens there were: frames are not tokens."""
    found = metrics(repeat(request(0, 0.0, (0.5, 1.0), output_tokens=None, timed="frames")))
    assert "output_throughput" not in found
    assert "tpot.p50" not in found
    assert found["ttft.p50"] == pytest.approx(0.5)


def test_frames_of_several_tokens_are_no_tokens_per_time() -> None:
    """Ten tokens in two frames: TPOT knows of ten, whatever the frames say."""
    one = request(0, 0.0, (1.0, 1.9), output_tokens=10, timed="frames")
    assert tpot(one) == pytest.approx(0.1)


def test_nothing_served_has_no_latencies() -> None:
    found = metrics(repeat(lost(0, RequestOutcome.TIMEOUT)))
    assert found["requests"] == 0
    assert not [name for name in found if name.startswith(("ttft", "tbt", "tpot", "e2e"))]


def test_slot_use_is_the_mean_over_iterations() -> None:
    iterations = (Iteration(0, 1, 4, 9, 0, 0, 4, 0), Iteration(1, 2, 2, 0, 2, 0, 2, 0))
    found = metrics(repeat(request(0, 0.0, (1.0,)), iterations=iterations, slots=4))
    assert (found["iterations"], found["slot_use"]) == (2, 0.75)


@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=80))
def test_percentiles_are_those_of_numpy(values: list[float]) -> None:
    found = metrics(repeat(*(request(number, 0.0, (value,)) for number, value in enumerate(values))))
    for part in (50, 95, 99):
        assert found[f"ttft.p{part}"] == pytest.approx(float(np.percentile(values, part)))
    assert found["ttft.mean"] == pytest.approx(float(np.mean(values)))


GOOD = request(0, 0.0, [0.4 + 0.05 * k for k in range(11)])  # ttft 0.4, gaps 0.05, e2e 0.9


@pytest.mark.parametrize(
    ("objectives", "kept"),
    [
        ("ttft=0.4", True),
        ("ttft=0.39", False),
        ("tbt=0.06", True),
        ("tbt=0.04", False),
        ("ttft=0.5,tbt=0.04", False),
        ("tpot=0.051,e2e=0.91", True),
        ("e2e=0.89", False),
    ],
)
def test_a_good_request_keeps_every_objective(objectives: str, kept: bool) -> None:
    assert is_good(GOOD, read_slo(objectives)) is kept


def test_one_long_gap_in_twenty_breaks_the_objective_about_gaps() -> None:
    times = [0.1 * k for k in range(20)]
    stalled = request(0, 0.0, [*times, times[-1] + 0.5])
    assert not is_good(stalled, SLO({"tbt": 0.2}))
    assert is_good(stalled, SLO({"tpot": 0.2}))


def test_goodput_counts_good_requests_per_second() -> None:
    """Three requests in two seconds, one of them too late."""
    found = metrics(repeat(*(request(number, 0.0, (at, 2.0)) for number, at in enumerate((0.1, 0.2, 1.5)))), SLO({"ttft": 1.0}))
    assert found["goodput"] == pytest.approx(2 / 2)


def test_a_request_of_one_token_has_no_gaps_that_could_be_late() -> None:
    assert is_good(request(0, 0.0, (0.1,)), SLO({"tbt": 1e-6, "tpot": 1e-6}))


@pytest.mark.parametrize("words", ["ttft", "ttft=", "ttft=x", "ttft=-1", "ttft=inf", "speed=3", "ttft=nan", "=1"])
def test_objectives_that_cannot_be(words: str) -> None:
    with pytest.raises(ConfigError, match="an objective is one of ttft, tbt, tpot, e2e and seconds"):
        read_slo(words)


def test_no_objectives() -> None:
    assert read_slo(None) == read_slo("") == SLO()
