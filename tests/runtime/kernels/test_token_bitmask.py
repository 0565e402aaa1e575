"""Forbidden tokens on the device are those of `runtime.token_bitmask`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from orcinus.runtime.kernels.token_bitmask import apply_token_bitmask
from orcinus.runtime.token_bitmask import apply_token_bitmask as on_the_host


@pytest.mark.parametrize("size", [1, 31, 32, 61, 5000])
def test_only_the_rows_named_and_only_what_is_forbidden(size: int) -> None:
    words = np.random.default_rng(size).integers(-(2**31), 2**31, (2, -(-size // 32))).astype(np.int32)
    logits = torch.randn(4, size + 3)[:, :size]  # strided
    wanted = logits.clone()
    on_the_host(wanted, [3, 1], words)
    apply_token_bitmask(logits, torch.tensor([3, 1], dtype=torch.int32), torch.from_numpy(words))
    assert torch.equal(logits, wanted)


@pytest.mark.parametrize("damage", [math.nan, math.inf])
def test_a_damaged_logit_that_is_forbidden_still_tells_that_the_row_is_damaged(damage: float) -> None:
    logits = torch.tensor([[1.0, damage, 2.0]])
    apply_token_bitmask(logits, torch.tensor([0], dtype=torch.int32), torch.tensor([[0b101]], dtype=torch.int32))
    assert logits[0, 1].isnan()
    assert logits[0, [0, 2]].tolist() == [1.0, 2.0]
