"""Several seeds in Python: every run, medians over them, and the intervals in which they lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orcinus.core.slo import SLO
from orcinus.core.view import Limits
from orcinus.cost.calibration import Calibration, read_calibration
from orcinus.cost.fitted import FEATURES, FitError, FittedCost
from orcinus.errors import ConfigError
from orcinus.sim.capacity import find_capacity
from orcinus.sim.config import SimulationConfig
from orcinus.sim.record import outcome_record
from orcinus.sim.simulate import simulate, workload_of
from orcinus.sim.validity import doubts
from orcinus.workload.source import OpenLoop
from orcinus.workload.workload import make_workload

CONFIG = SimulationConfig(lengths="orca", requests=60, arrivals="poisson:rate=4", seed=2)


def test_every_seed_is_a_run_of_its_own() -> None:
    outcome = simulate(replace(CONFIG, seeds=5))
    alone = [simulate(replace(CONFIG, seed=seed)) for seed in range(2, 7)]
    expected = [one.metrics.ttft.percentile(99) for one in alone]
    assert [one.metrics.ttft.percentile(99) for one in outcome.runs] == expected
    interval = outcome.intervals["ttft.p99"]
    assert (interval.low, interval.median, interval.high) == (min(expected), sorted(expected)[2], max(expected))
    assert interval.level == 0.9375
    assert outcome_record(outcome)["ttft"]["p99"] == interval.median


def test_one_seed_has_no_intervals() -> None:
    outcome = simulate(CONFIG)
    assert (outcome.runs, outcome.intervals) == ((), {})
    assert "intervals" not in outcome_record(outcome)


def test_a_workload_of_ones_own_has_one_seed() -> None:
    with pytest.raises(ConfigError, match="several seeds"):
        simulate(replace(CONFIG, seeds=2), workload=workload_of(CONFIG))


def test_a_price_makes_the_cost_of_a_million_output_tokens() -> None:
    config = replace(CONFIG, price=3.6, replicas=2, tp=2)
    outcome = simulate(config)
    cost = outcome_record(outcome)["cost_per_million_output_tokens"]
    seconds_per_token = outcome.metrics.span / outcome.metrics.output_tokens
    assert cost == pytest.approx(0.001 * 4 * seconds_per_token * 1e6)  # 3.6 an hour is 0.001 a second, for each of four
    assert outcome_record(simulate(replace(config, price=None)))["cost_per_million_output_tokens"] is None


@pytest.mark.full  # tests/cli/test_evidence.py asks for one
def test_a_capacity_over_seeds_is_their_median() -> None:
    asked = SLO({"ttft.p99": 0.3})
    together = find_capacity(replace(CONFIG, seeds=3), asked, tolerance=0.4, first=4)
    alone = [find_capacity(replace(CONFIG, seed=seed), asked, tolerance=0.4, first=4).rate for seed in (2, 3, 4)]
    assert [one.rate for one in together.runs] == alone
    assert together.interval is not None
    assert (together.rate, together.interval.low, together.interval.high) == (sorted(alone)[1], min(alone), max(alone))


def test_doubts_of_a_calibration_are_repeated(tmp_path: Path) -> None:
    cost = FittedCost(dict.fromkeys(FEATURES, 1e-5), 200, FitError(0.05, 0.1), factors=(0.9, 1.0, 1.4))
    named = {"model": "m", "machine": "here", "device": "cpu", "dtype": "float32", "attention": "cpu"}
    memory = {"block_size": 16, "num_blocks": 500}
    measured = Calibration(**named, **memory, limits=Limits(8, 512, 512), cost=cost, doubts=("it was busy",))
    measured.write(tmp_path / "here.json")
    assert read_calibration(tmp_path / "here.json") == measured
    content = json.loads((tmp_path / "here.json").read_text())
    (tmp_path / "odd.json").write_text(json.dumps(content | {"doubts": "busy"}))
    with pytest.raises(ConfigError, match="is damaged .doubts must be a list"):
        read_calibration(tmp_path / "odd.json")
    config = replace(
        CONFIG, model="", network="", device=str(tmp_path / "here.json"), lengths="uniform:low=8:high=64,fixed:tokens=8"
    )
    outcome = simulate(config)
    assert simulate(config).metrics.span == outcome.metrics.span, "equal seeds give equal jitter"
    steady = replace(measured, cost=replace(cost, factors=()))
    steady.write(tmp_path / "steady.json")
    assert outcome.metrics.span != simulate(replace(config, device=str(tmp_path / "steady.json"))).metrics.span
    assert doubts(outcome)[0] == "the calibration is in doubt: it was busy"
    assert outcome_record(outcome)["costs"][0]["basis"] == "fitted"
    assert "the calibration is in doubt: it was busy" in find_capacity(config, SLO({"ttft.p99": 0.01}), tolerance=0.5).doubts


def test_requests_that_come_together_come_in_their_order() -> None:
    workload = make_workload("all-at-once", "uniform:low=1:high=999,fixed:tokens=1", requests=30)
    source, order = OpenLoop(iter(workload)), [arrival.prompt_tokens for arrival in workload]
    taken = []
    while source.next is not None:
        taken.append(source.next.prompt_tokens)
        source.take(str(len(taken)))
    assert taken == order


def test_all_at_once_is_served_in_the_order_of_submission() -> None:
    served: list[str] = []
    config = replace(
        CONFIG, arrivals="all-at-once", lengths="pd:length=64:ratio=3", requests=12, max_batch_size=1, policy="orca"
    )
    simulate(config, on_served=lambda each: served.append(each.request_id))
    assert served == [str(number) for number in range(12)]
