"""Measured curves of linear layers: exact where something was measured, by tiles beyond."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.cost.curve import TILE, MeasuredCurve, find_linears
from orcinus.cost.transformer import TransformerCost
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig
from orcinus.sim.simulate import set_up

STEPS = MeasuredCurve((1, 128, 129, 256, 257, 384, 385, 512), (4.0, 4.2, 6.0, 6.1, 8.0, 8.1, 10.0, 10.1))


def test_it_passes_through_what_was_measured() -> None:
    assert [STEPS(tokens) for tokens in STEPS.tokens] == list(STEPS.seconds)


def test_between_two_points_it_is_a_line_so_a_step_stays_a_step() -> None:
    assert STEPS(192) == pytest.approx(6.0 + 0.1 * 63 / 127)
    assert STEPS(257) - STEPS(256) > 10 * (STEPS(256) - STEPS(255))


def test_fewer_tokens_than_were_measured_take_no_less_time() -> None:
    assert MeasuredCurve((8, 256), (4.0, 6.0))(1) == 4.0


@given(st.integers(TILE + 1, 3 * TILE), st.integers(1, 40))
def test_beyond_it_every_tile_adds_what_tiles_added(tokens: int, tiles: int) -> None:
    each = (10.1 - 6.1) / 2  # of the upper half: from 256 to 512 tokens
    assert STEPS(2 * TILE + tokens + tiles * TILE) == pytest.approx(STEPS(2 * TILE + tokens) + tiles * each)


@pytest.mark.parametrize(
    ("tokens", "seconds"), [((1, 1, 256), (1.0, 1.0, 1.0)), ((1, 256), (1.0,)), ((1, 256), (0.0, 1.0)), ((1, 255), (1.0, 2.0))]
)
def test_what_is_no_curve_is_refused(tokens: tuple[int, ...], seconds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="a curve"):
        MeasuredCurve(tokens, seconds)


def test_a_simulation_uses_it_where_model_device_degree_and_software_are_those_measured() -> None:
    measured = SimulationConfig(model="llama-13b", device="a6000", software="sarathi")
    found = find_linears("sarathi", "llama-13b", "a6000", 1)
    assert found is not None
    cost = set_up(measured).machine.cost
    assert isinstance(cost, TransformerCost)
    assert cost.layer_seconds(256) == pytest.approx(found(256) / 40 + cost.elementwise_seconds(256))
    for change in ({"model": "llama-2-13b"}, {"device": "a100-80g"}, {"tp": 2}, {"software": "default"}):
        config = replace(measured, **change)
        assert find_linears(config.software, config.model, config.device, config.tp) is None


def test_another_efficiency_of_linear_layers_takes_the_formula() -> None:
    assert find_linears("sarathi:matmul=0.5", "llama-13b", "a6000", 1) is None
    assert find_linears("sarathi:request=0.001", "llama-13b", "a6000", 1) is not None
