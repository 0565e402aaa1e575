"""Attention of prompts: what its thread blocks cost beyond their operations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orcinus.cost.architecture import ARCHITECTURES
from orcinus.cost.attention import waves

MODEL = ARCHITECTURES["llama-13b"]  # of 40 heads


def test_blocks_that_fill_the_device_cost_nothing_besides() -> None:
    assert waves(MODEL, 1, 128, rows=64, sms=80) == 1.0  # 2 x 40 blocks


def test_half_a_device_costs_as_much_as_a_whole_one() -> None:
    assert waves(MODEL, 1, 64, rows=64, sms=80) == 2.0
    assert waves(MODEL, 1, 192, rows=64, sms=80) == 160 / 120


def test_a_block_that_is_partly_empty_costs_as_much_as_a_full_one() -> None:
    assert waves(MODEL, 1, 96, rows=64, sms=80) == 128 / 96


def test_kernels_that_fill_any_device_have_no_waves() -> None:
    assert waves(MODEL, 1, 1, rows=None, sms=80) == 1.0


@given(st.integers(1, 8192), st.sampled_from([1, 2, 4, 8]), st.integers(1, 256), st.integers(1, 200))
def test_it_is_never_less_and_fades_as_chunks_grow(tokens: int, tp: int, rows: int, sms: int) -> None:
    assert waves(MODEL, tp, tokens, rows, sms) >= 1 - 1e-12
    assert waves(MODEL, tp, tokens * 1000 * rows, rows, sms) < 1 + sms / (1000 * (MODEL.heads // tp)) + 1e-9
