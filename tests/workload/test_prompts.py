"""Prompts that are made up share what their arrivals share, and no more."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.workload.arrival import Arrival
from orcinus.workload.prompts import prompt_ids

LENGTHS = st.integers(30, 200)


@given(LENGTHS, LENGTHS, st.integers(0, 20), st.integers(0, 20))
def test_an_equal_prefix_is_shared_as_far_as_both_have_it(one: int, other: int, first: int, second: int) -> None:
    a = prompt_ids(Arrival(0, one, 1, prefix="system", prefix_tokens=first), 1, 50_000)
    b = prompt_ids(Arrival(0, other, 1, prefix="system", prefix_tokens=second), 2, 50_000)
    shared = min(first, second)
    assert (len(a), len(b)) == (one, other)
    assert a[:shared] == b[:shared]
    assert a[shared:] != b[shared:]


@given(st.lists(st.integers(-(2**63), 2**64), max_size=6), LENGTHS, st.integers(0, 99))
def test_a_prompt_is_as_long_as_it_says_and_made_of_known_ids(blocks: list[int], length: int, number: int) -> None:
    arrival = Arrival(0, length, 1, blocks=tuple(blocks), block_tokens=16 if blocks else 0)
    ids = prompt_ids(arrival, number, 300)
    assert len(ids) == length
    assert 0 <= min(ids) <= max(ids) < 300
    assert ids == prompt_ids(arrival, number, 300)


def test_other_prefixes_and_other_requests_share_nothing() -> None:
    prompts = [prompt_ids(Arrival(0, 64, 1, prefix=name, prefix_tokens=32), 1, 50_000) for name in ("a", "b")]
    prompts += [prompt_ids(Arrival(0, 64, 1), number, 50_000) for number in (1, 2)]
    prompts.append(prompt_ids(Arrival(0, 64, 1), zlib.crc32(b"a"), 50_000))
    assert len({prompt[:8] for prompt in prompts}) == 5


@pytest.mark.parametrize(
    "arrival",
    [
        Arrival(0, 64, 1),
        Arrival(0, 64, 1, prefix="system", prefix_tokens=32),
        Arrival(0, 64, 1, blocks=(7, 8), block_tokens=16),
    ],
    ids=["own", "prefix", "blocks"],
)
def test_draws_share_nothing(arrival: Arrival) -> None:
    first, second = (prompt_ids(arrival, 1, 50_000, draw) for draw in (0, 3))
    assert len(first) == len(second)
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 2
    assert prompt_ids(arrival, 1, 50_000, 3) == second


@pytest.mark.parametrize("draw", [0, 1, 2**48])
def test_within_a_draw_is_shared_what_the_arrivals_say(draw: int) -> None:
    by_name = [prompt_ids(Arrival(0, 64, 1, prefix="a", prefix_tokens=32), number, 50_000, draw) for number in (1, 2)]
    by_block = [prompt_ids(Arrival(0, 64, 1, blocks=(7, 8), block_tokens=16), number, 50_000, draw) for number in (1, 2)]
    for one, other in (by_name, by_block):
        assert one[:32] == other[:32]
        assert one[32] != other[32]
