"""Token bitmasks say what parameters allow, and forbid the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.executor_state import Row
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.token_bitmask import apply_token_bitmask, token_bitmask
from tests.seam import row


def drawn(output: tuple[int, ...] = (), **params: Any) -> Row:
    return row((0, *output), 1, SamplingParams(**params))


@given(st.data(), st.integers(1, 100))
def test_a_bit_is_set_for_every_token_that_is_allowed(data: st.DataObject, size: int) -> None:
    ids = st.integers(0, size - 1)
    allowed = data.draw(st.none() | st.lists(ids, min_size=1))
    words, stops = data.draw(st.lists(ids)), data.draw(st.lists(ids))
    params = {"bad_words_token_ids": [[t] for t in words], "stop_token_ids": stops, "min_tokens": 1}
    found = token_bitmask(drawn(allowed_token_ids=allowed, **params), size)
    wanted = [(allowed is None or token in allowed) and token not in {*words, *stops} for token in range(size)]
    if found is None:
        assert all(wanted)
        return
    assert (found.dtype, len(found)) == (np.int32, -(-size // 32))
    assert [bool(int(found[token // 32]) >> token % 32 & 1) for token in range(size)] == wanted
    logits = torch.randn(3, size)
    before = logits.clone()
    apply_token_bitmask(logits, [1], found[None])
    assert logits[1].tolist() == [x if ok else -torch.inf for x, ok in zip(before[1].tolist(), wanted, strict=True)]
    assert torch.equal(logits[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("params", [{}, {"stop_token_ids": (3,)}, {"min_tokens": 1, "stop_token_ids": (3,)}])
def test_a_row_without_a_ban_has_none(params: dict[str, Any]) -> None:
    assert token_bitmask(drawn((7,), **params), 50) is None


def test_a_word_of_several_tokens_forbids_its_last_behind_the_others() -> None:
    words = ((5, 6), (4, 5, 7), (0, 4, 9))  # the last begins in the prompt, which does not count
    found = token_bitmask(drawn((4, 5), bad_words_token_ids=words), 32)
    assert found is not None
    assert [token for token in range(32) if not int(found[0]) >> token & 1] == [6, 7]
    assert token_bitmask(drawn((5, 4), bad_words_token_ids=words), 32) is None
