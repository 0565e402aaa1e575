"""Tokens go from the batch that sampled them to the one that follows."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.runtime.kernels.follow import BLOCK, follow
from tests.examples import examples


@examples(20)
@given(st.lists(st.integers(-1, 9), max_size=2 * BLOCK + 3))
def test_every_row_with_a_source_takes_its_token_and_no_other_changes(places: list[int]) -> None:
    sources, sampled = torch.tensor(places, dtype=torch.int32), torch.arange(100, 110)
    tokens = torch.arange(len(places), dtype=torch.int32)
    follow(tokens, sources, sampled)
    assert tokens.tolist() == [row if place < 0 else 100 + place for row, place in enumerate(places)]


def test_the_batch_before_may_have_sampled_no_token() -> None:
    """The batch before failed: its requests find no token, and nothing is read."""
    tokens = torch.tensor([7], dtype=torch.int32)
    follow(tokens, torch.tensor([-1], dtype=torch.int32), torch.empty(0, dtype=torch.int64))
    assert tokens.tolist() == [7]
