"""The likeliest token: ties, damaged rows, vocabularies of any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.runtime.kernels.argmax import PIECE, argmax

SIZES = [1, 5, 1000, PIECE, PIECE + 1, 3 * PIECE + 7]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_torch(size: int, dtype: torch.dtype) -> None:
    logits = torch.randn(4, size).to(dtype)
    tokens, peaks = argmax(logits)
    wanted, places = logits.float().max(dim=-1)
    assert torch.equal(peaks, wanted)
    assert tokens.tolist() == places.tolist()


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_of_equal_logits_the_lowest_token_wins(values: list[int]) -> None:
    tokens, _ = argmax(torch.tensor([values], dtype=torch.float32))
    assert tokens.tolist() == [values.index(max(values))]


def test_of_equal_logits_in_different_pieces_too() -> None:
    logits = torch.zeros(1, 3 * PIECE)
    logits[0, [PIECE - 1, PIECE, 2 * PIECE + 5]] = 2.0
    assert argmax(logits)[0].tolist() == [PIECE - 1]


@pytest.mark.parametrize("place", [0, PIECE + 3])
def test_the_peak_tells_of_damaged_rows_and_of_those_in_which_all_is_forbidden(place: int) -> None:
    logits = torch.randn(4, PIECE + 9)
    logits[0, place], logits[1, place], logits[2] = torch.nan, torch.inf, -torch.inf
    peaks = argmax(logits)[1]
    assert torch.isnan(peaks[0])
    assert peaks[1:3].tolist() == [torch.inf, -torch.inf]
    assert torch.isfinite(peaks[3])


def test_rows_may_be_strided() -> None:
    wide = torch.randn(3, 50)
    assert argmax(wide[:, :20])[0].tolist() == wide[:, :20].argmax(dim=-1).tolist()


def test_no_rows() -> None:
    assert argmax(torch.empty(0, 9))[0].shape == (0,)
