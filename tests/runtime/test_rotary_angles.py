"""The angles of rotary embeddings: the same values, whichever positions come first and wherever they are computed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.runtime.models.rotary_angles import LEAST_GROWTH, RotaryAngles
from orcinus.runtime.models.spec import Rope

ROPE = Rope((1.0, 0.1, 0.003), scale=1.5)
CPU = torch.device("cpu")


def angles_of(rope: Rope = ROPE, dtype: torch.dtype = torch.float32) -> RotaryAngles:
    return RotaryAngles(rope, dtype, CPU)


def test_cosine_and_sine_of_position_times_frequency_are_scaled() -> None:
    cos, sin = angles_of()(torch.tensor([0, 7]))
    assert cos[1].tolist() == pytest.approx([1.5 * math.cos(7 * frequency) for frequency in ROPE.inverse_frequencies], 1e-6)
    assert sin[1].tolist() == pytest.approx([1.5 * math.sin(7 * frequency) for frequency in ROPE.inverse_frequencies], 1e-6)
    assert cos[0].tolist() == [1.5] * 3


@given(st.lists(st.lists(st.integers(0, 5 * LEAST_GROWTH), max_size=5), min_size=1, max_size=5))
def test_a_position_has_the_same_bits_whatever_was_asked_before(batches: list[list[int]]) -> None:
    kept = angles_of()
    for batch in batches:
        positions = torch.tensor(batch, dtype=torch.long)
        for mine, alone in zip(kept(positions), angles_of()(positions), strict=True):
            assert mine.shape == (len(batch), 3)
            assert torch.equal(mine, alone)


def test_the_table_is_computed_in_float32_and_kept_in_the_model_s_format() -> None:
    position = torch.tensor([40_000])
    exact, rounded = angles_of()(position), angles_of(dtype=torch.bfloat16)(position)
    assert all(torch.equal(mine.to(torch.bfloat16), its) for mine, its in zip(exact, rounded, strict=True))
    assert {its.dtype for its in rounded} == {torch.bfloat16}


def test_the_table_grows_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, computed = angles_of(), []
    compute = kept._of
    monkeypatch.setattr(kept, "_of", lambda positions: computed.append(len(positions)) or compute(positions))
    for position in range(4 * LEAST_GROWTH):
        kept(torch.tensor([position]))
    assert computed == [LEAST_GROWTH, LEAST_GROWTH, 2 * LEAST_GROWTH]


def test_other_devices_compute_the_angles_anew() -> None:
    cos, sin = RotaryAngles(ROPE, torch.bfloat16, torch.device("meta"))(torch.empty(4, dtype=torch.long, device="meta"))
    assert (cos.shape, sin.shape) == ((4, 3), (4, 3))
