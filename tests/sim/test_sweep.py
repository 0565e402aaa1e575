"""Products of settings, simulated one process each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig
from orcinus.sim.parallel import in_parallel
from orcinus.sim.record import outcome_record
from orcinus.sim.simulate import simulate
from orcinus.sim.sweep import points, sweep

TINY = SimulationConfig(
    max_model_len=512, max_batch_size=8, lengths="uniform:low=20:high=90,uniform:low=2:high=20", requests=12, num_blocks=200
)


def test_points_are_the_product_with_the_last_axis_fastest() -> None:
    found = points(TINY, {"policy": ["stall-free", "sarathi"], "chunk_size": [64, 128], "rate": [1, 2.5]})
    assert [(each.policy, each.arrivals) for each in found[:3]] == [
        ("stall-free:token_budget=64", "poisson:rate=1.0"),
        ("stall-free:token_budget=64", "poisson:rate=2.5"),
        ("stall-free:token_budget=128", "poisson:rate=1.0"),
    ]
    assert found[-1].policy == "sarathi:chunk_size=128"
    assert len(found) == 8


def test_a_policy_without_chunks_is_simulated_once() -> None:
    found = points(TINY, {"policy": ["orca", "sarathi:chunk_size=32"], "chunk_size": [64, 128]})
    assert [each.policy for each in found] == ["orca", "sarathi:chunk_size=64", "sarathi:chunk_size=128"]


def test_the_policy_of_a_paper_may_get_other_chunks() -> None:
    (found,) = points(TINY, {"paper": ["sarathi-serve"], "chunk_size": [256]})
    assert (found.policy, found.kv) == ("stall-free:token_budget=256", "paged")


def test_without_axes_there_is_one_point() -> None:
    assert points(TINY, {}) == [TINY]


def test_results_are_those_of_single_simulations() -> None:
    axes: dict[str, list[Any]] = {"max_batch_size": [2, 8], "rate": [5.0, 50.0]}
    heard: list[tuple[int, int]] = []
    alone = sweep(TINY, axes, workers=1, watch=lambda done, of: heard.append((done, of)))
    beside = sweep(TINY, axes, workers=2)
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for one, other, config in zip(alone, beside, points(TINY, axes), strict=True):
        assert one.pop("wall_seconds") >= 0
        assert other.pop("wall_seconds") >= 0
        assert one == other == json.loads(json.dumps(one))
        assert one["e2e"] == outcome_record(simulate(config))["e2e"]
        assert one["config"]["max_batch_size"] == config.max_batch_size


def test_what_does_not_fit_says_so_and_stops_nothing() -> None:
    first, second = sweep(TINY, {"model": ["gpt3-175b", "mistral-7b"]}, workers=1)
    assert "does not fit" in first["error"]
    assert second["requests"] == 12


@pytest.mark.parametrize("axes", [{"speed": [1]}, {"rate": []}])
def test_wrong_axes_are_refused(axes: dict[str, list[Any]]) -> None:
    with pytest.raises(ConfigError, match="speed|no values"):
        points(TINY, axes)


def test_nothing_to_do_is_done_at_once() -> None:
    assert list(in_parallel(simulate, [])) == []
