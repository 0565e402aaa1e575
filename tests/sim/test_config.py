"""What a simulation can be asked for, in Python."""

from __future__ import annotations

from dataclasses import replace

import pytest

import orcinus
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig


def test_simulate_from_python() -> None:
    config = orcinus.SimulationConfig(lengths="orca", requests=20, paper="orca", arrivals="poisson:rate=2")
    served = []
    outcome = orcinus.simulate(config, on_served=served.append)
    assert outcome.metrics.served == len(served) == 20
    assert outcome.metrics.ttft.percentile(50) < outcome.metrics.e2e.percentile(50)


def test_what_is_left_open_is_filled_in() -> None:
    config = SimulationConfig()
    assert (config.model, config.network, config.policy, config.kv) == ("mistral-7b", "a100-dgx", "stall-free", "paged")
    assert SimulationConfig(device="h100").network == "h100-dgx"
    assert SimulationConfig(device="here.json").model == ""  # the file says it
    assert SimulationConfig(paper="orca").kv == "reservation"


def test_a_paper_and_something_else_beside_it_are_refused_even_if_that_is_the_default() -> None:
    with pytest.raises(ConfigError, match="says which kv to use"):
        SimulationConfig(paper="orca", kv="paged")
    with pytest.raises(ConfigError, match="says which policy to use"):
        replace(SimulationConfig(paper="orca"), policy="stall-free")


@pytest.mark.parametrize(
    "wrong",
    [
        {"arrivals": 3},
        {"lengths": None},
        {"policy": None},
        {"seed": 1.5},
        {"seed": -1},
        {"gpu_memory_utilization": "x"},
        {"gpu_memory_utilization": 0},
        {"replicas": 0},
        {"block_size": True},
        {"in_flight": -1},
        {"num_blocks": 10**9},
        {"price": 0},
        {"price": float("inf")},
    ],
)
def test_wrong_values_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} must be"):
        SimulationConfig(**wrong)  # type: ignore[arg-type]
