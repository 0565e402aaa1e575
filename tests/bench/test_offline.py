"""Configurations of the real engine, measured in turn over the same weights."""

from __future__ import annotations

import pytest

from orcinus.bench.config import LoadConfig
from orcinus.bench.measure import metrics
from orcinus.bench.offline import Engines, engine_systems, run_offline
from orcinus.bench.requests import hash_requests, make_requests
from orcinus.bench.result import Result
from orcinus.bench.summary import same_outputs
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.workload.processes import Closed
from orcinus.workload.workload import make_workload

LOAD = LoadConfig(workload="uniform:low=4:high=40,uniform:low=1:high=12", requests=6, repeats=2)
CONFIGS = {
    "static": EngineConfig(policy="request-level", kv="reservation", dtype="float32", max_batch_size=2),
    "orca": EngineConfig(policy="orca", kv="paged", dtype="float32", max_batch_size=2),
    "larger": EngineConfig(policy="stall-free:token_budget=32", kv="prefix-cache", dtype="float32", max_batch_size=4),
}


@pytest.fixture(scope="module")
def measured() -> Result:
    return run_offline(CONFIGS, LOAD)


def test_all_serve_the_same_requests_and_say_the_same(measured: Result) -> None:
    assert [side.name for side in measured.sides] == list(CONFIGS)
    asked = make_requests(LOAD.make(0), 2048)
    for side in measured.sides:
        for repeat in side.repeats:
            assert repeat.valid
            assert [request.prompt_tokens for request in repeat.requests] == [len(each.prompt) for each in asked]
            assert [request.output_tokens for request in repeat.requests] == [each.output_tokens for each in asked]
    assert same_outputs(measured.sides) is True
    assert measured.complete


def test_what_each_came_to_is_told(measured: Result) -> None:
    static, orca, larger = (side.settings for side in measured.sides)
    assert (static["policy"], orca["kv"], larger["max_batch_size"]) == ("request-level", "paged", 4)
    assert static["num_blocks"] == orca["num_blocks"] == larger["num_blocks"], "all have the same K/V memory"


def test_static_batching_needs_more_iterations(measured: Result) -> None:
    static, orca, _ = (side.repeats[0] for side in measured.sides)
    assert len(static.iterations) > len(orca.iterations)
    assert all(iteration.requests <= 2 for iteration in static.iterations)


def test_the_work_is_described(measured: Result) -> None:
    asked = make_requests(LOAD.make(0), 2048)
    assert measured.work.output_tokens == sum(each.output_tokens for each in asked)
    assert (measured.work.requests, measured.work.model, measured.work.seed) == (6, "orcinus-tiny", 0)


def test_every_run_begins_with_an_empty_prefix_cache() -> None:
    load = LoadConfig(workload="shared-prefix:prefix=64:own=8:output=2", requests=4, repeats=1)
    (system,), _ = engine_systems({"cached": EngineConfig(kv="prefix-cache", max_batch_size=1)}, load)
    first, second = (system.measure(load.make(0), number) for number in range(2))
    assert [each.cached_tokens for each in first.requests] == [each.cached_tokens for each in second.requests]
    assert metrics(first)["prefix_hit_rate"] == 0.0, "four different prefixes"


def test_shared_prefixes_are_found_again() -> None:
    load = LoadConfig(workload="shared-prefix:prefixes=1:prefix=64:own=8:output=2", requests=4, repeats=1)
    (system,), work = engine_systems({"cached": EngineConfig(kv="prefix-cache", max_batch_size=1)}, load)
    assert metrics(system.measure(load.make(0)))["prefix_hit_rate"] == pytest.approx(3 * 64 / (4 * 72), abs=0.08)
    assert work.shared_tokens == 3 * 64


def test_a_preempted_request_that_finds_its_own_blocks_again_is_no_hit() -> None:
    load = LoadConfig(workload="fixed:tokens=40,fixed:tokens=40", requests=4, repeats=1)
    (system,), work = engine_systems({"small": EngineConfig(kv="prefix-cache", max_batch_size=4, num_blocks=12)}, load)
    found = metrics(system.measure(load.make(0)))
    assert found["preemptions"] > 0
    assert (found["prefix_hit_rate"], work.shared_tokens) == (0.0, 0)


def test_closed_loops_keep_so_many_requests_in_flight() -> None:
    load = LoadConfig(workload="fixed:tokens=4,fixed:tokens=8", arrivals="closed:clients=3", requests=9, repeats=1)
    assert isinstance(load.make(0).arrivals, Closed)
    (system,), _ = engine_systems({"orca": EngineConfig(policy="orca", kv="paged")}, load)
    repeat = system.measure(load.make(0))
    assert len(repeat.requests) == 9
    assert max(iteration.requests for iteration in repeat.iterations) == 3


def test_requests_that_do_not_fit_are_named_before_anything_runs() -> None:
    engines = Engines({"small": EngineConfig(max_model_len=64)})
    with pytest.raises(ConfigError, match="3 of 3 requests are longer than the 64 tokens that one may have here"):
        engines.requests(make_workload("all-at-once", "fixed:tokens=60,fixed:tokens=5", 3))


def test_a_model_that_is_loaded_does_not_have_to_fit_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has taken is missing from the memory that is left: configurations are planned with what there was before."""
    engines = Engines({"one": EngineConfig(max_batch_size=2, dtype="float32")})
    limits = engines.engine("one").scheduler.limits
    monkeypatch.setattr("orcinus.plan.memory_available", lambda device: 1)
    assert engines.engine("one").scheduler.limits == limits


def test_wrong_configurations_are_named_before_the_model_is_loaded() -> None:
    with pytest.raises(ConfigError, match="unknown K/V manager 'pagd'"):
        Engines({"good": EngineConfig(), "bad": EngineConfig(kv="pagd")})


def test_the_hash_of_the_requests_depends_on_every_token_and_length() -> None:
    one = make_requests(make_workload("all-at-once", "mixed", 5, seed=1), 100)
    assert hash_requests(one) == hash_requests(make_requests(make_workload("poisson:rate=3", "mixed", 5, seed=1), 100))
    assert hash_requests(one) != hash_requests(make_requests(make_workload("all-at-once", "mixed", 5, seed=2), 100))
    assert hash_requests(one) != hash_requests(one[:-1])
