"""The highest rate at which promises are kept."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.slo import SLO, capacity_slo
from orcinus.errors import ConfigError
from orcinus.observe.distribution import Distribution
from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.capacity import Capacity, Size, Trial, at_rate, find_capacities, find_capacity, is_lost, keeps
from orcinus.sim.config import SimulationConfig
from orcinus.sim.simulate import set_up, simulate
from tests.product import part

SMALL = SimulationConfig(
    model="mistral-7b",
    policy="orca",
    max_batch_size=4,
    max_model_len=512,
    lengths="uniform:low=20:high=200,uniform:low=5:high=60",
    requests=60,
)
DELAY = SLO({"scheduling_delay.p50": 0.5})
BOTH = SLO({"tbt.p99": 0.02, "scheduling_delay.p50": 0.5})


@cache
def near() -> Capacity:
    """The capacity found from near it."""
    return find_capacity(SMALL, DELAY, first=3.0)


def test_the_answer_is_the_edge() -> None:
    found = near()
    kept = [trial.rate for trial in found.trials if trial.kept]
    lost = [trial.rate for trial in found.trials if not trial.kept]
    assert found.rate == max(kept) < min(lost) <= found.rate * 1.025
    assert keeps(DELAY, simulate(at_rate(SMALL, found.rate)))
    assert not keeps(DELAY, simulate(at_rate(SMALL, min(lost))))


@pytest.mark.parametrize("first", part(0.3, 40.0, full=[2.7]))
def test_wherever_the_search_starts(first: float) -> None:
    assert find_capacity(SMALL, DELAY, first=first).rate == pytest.approx(near().rate, rel=0.03)


def test_a_finer_tolerance_encloses_more_closely() -> None:
    fine = find_capacity(SMALL, DELAY, first=3.0, tolerance=0.005)
    assert min(trial.rate for trial in fine.trials if not trial.kept) <= fine.rate * 1.005


def test_lost_trials_end_early_and_nothing_changes_by_it() -> None:
    config = replace(SMALL, requests=120)  # so many that half of them can be late before the last one comes
    found = find_capacity(config, DELAY, first=3.0)
    early = [trial for trial in found.trials if trial.outcome.ended_early]
    assert early
    for trial in found.trials:
        whole = simulate(at_rate(config, trial.rate))
        assert trial.kept == keeps(DELAY, whole)
        assert trial.outcome.metrics.served <= whole.metrics.served


def test_several_objectives_share_their_trials() -> None:
    asked = (BOTH, DELAY)
    together = find_capacities(SMALL, asked, first=3.0)
    assert len(together) == 2
    for slo, found in zip(asked, together, strict=True):
        alone = find_capacity(SMALL, slo, first=3.0)
        assert found.rate == alone.rate
    made = {id(trial.outcome) for found in together for trial in found.trials}
    assert len(made) < sum(len(found.trials) for found in together)


def test_every_trial_is_announced() -> None:
    heard: list[Trial] = []
    found = find_capacity(SMALL, DELAY, first=3.0, watch=heard.append)
    assert tuple(heard) == found.trials


def test_objectives_out_of_reach_have_no_capacity() -> None:
    assert find_capacity(replace(SMALL, requests=10), SLO({"tbt.p99": 1e-4})).rate == 0.0


def test_objectives_that_nothing_breaks_are_reported() -> None:
    with pytest.raises(ConfigError, match="too short to tell"):
        find_capacity(replace(SMALL, requests=2), SLO({"tbt.p99": 100.0}))


@pytest.mark.parametrize(
    ("slo", "size", "lost"),
    [
        (SLO({"tbt.p99": 0.1}), Size(10, 200), True),  # 3 late gaps of at most 200
        (SLO({"tbt.p99": 0.1}), Size(10, 400), False),  # there may come 397 that are not
        (SLO({"tbt.p99": 5.0}), Size(10, 200), False),
        (SLO({"ttft.p99": 1.0}), Size(100, 200), True),
        (SLO({"ttft.p99": 1.0}), Size(300, 200), False),
        (SLO({"scheduling_delay.p50": 1.0}), Size(5, 200), True),
        (SLO({"scheduling_delay.p50": 1.0}), Size(6, 200), False),
    ],
)
def test_what_is_certainly_lost(slo: SLO, size: Size, lost: bool) -> None:
    metrics = MetricsObserver(set_up(SMALL).machine.limits)
    for value in (0.01, 0.2, 1.5, 2.0):
        metrics.tbt.add(value)
    for value in (2.0, 2.0, 3.0):
        metrics.ttft.add(value)
        metrics.scheduling_delay.add(value)
    assert is_lost(slo, metrics, size) == lost


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(1e-6, 10))
def test_too_many_above_a_limit_is_a_percentile_above_it(values: list[float], limit: float) -> None:
    seen = Distribution()
    for value in values:
        seen.add(value)
    clear = [value for value in values if abs(value / limit - 1) > 1e-3]  # buckets are a thousandth wide
    if len(clear) == len(values):
        assert seen.above(limit) == sum(value > limit for value in values)
        assert (seen.percentile(99) > limit) == (seen.above(limit) > 0.01 * len(values))


def test_rates_are_only_of_arrivals_that_have_one() -> None:
    assert at_rate(replace(SMALL, arrivals="gamma:rate=1:cv=2"), 0.5).arrivals == "gamma:rate=0.5:cv=2"
    with pytest.raises(ConfigError, match="no rate to vary"):
        find_capacity(replace(SMALL, arrivals="all-at-once"), DELAY)
    with pytest.raises(ConfigError, match="how many requests"):
        find_capacity(replace(SMALL, requests=None), DELAY)
    with pytest.raises(ConfigError, match="tolerance"):
        find_capacity(SMALL, DELAY, tolerance=0.0)


@pytest.mark.parametrize("wrong", [{}, {"tbt.p99": None}, {"tbt.p99": 0.0}, {"scheduling_delay.p50": float("inf")}])
def test_objectives_have_to_say_something(wrong: dict[str, float | None]) -> None:
    with pytest.raises(ConfigError, match="objective"):
        capacity_slo(wrong)
