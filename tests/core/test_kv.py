"""K/V managers: who is given how many blocks, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.kv import KV_MANAGERS, Buddy, MaxLength, Paged, Reservation
from orcinus.core.request import Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.errors import ConfigError


def request(prompt: int, max_tokens: int, name: str = "r") -> Request:
    return Request(name, (0,) * prompt, SamplingParams(max_tokens=max_tokens), 0.0)


def test_reservation_takes_prompt_and_max_tokens_at_admission() -> None:
    kv, one = Reservation(10, 4), request(5, 8)
    assert kv.can_admit(one)
    assert kv.admit(one) == 0
    assert len(kv.blocks(one)[0]) == 4  # ceil(13 / 4)
    assert kv.grow(one, 13)
    assert len(kv.blocks(one)[0]) == 4
    kv.release(one)
    assert kv.num_free == 10


def test_max_length_takes_the_whole_model_length_however_short_the_request() -> None:
    kv = MaxLength(num_blocks=1000, block_size=16, max_model_len=2048)
    admitted = 0
    while kv.can_admit(one := request(3, 5, f"r{admitted}")):
        kv.admit(one)
        admitted += 1
    assert admitted == 1000 // 128


def test_orca_max_of_the_vllm_paper_holds_seven_requests() -> None:
    """OPT-13B on an A100-40GB has 15.7 K slots, and 2048 for each request leave 7 (vLLM, figure 13)."""
    kv = MaxLength(num_blocks=15_700, block_size=1, max_model_len=2048)
    admitted = 0
    while kv.can_admit(one := request(161, 338, f"r{admitted}")):
        kv.admit(one)
        admitted += 1
    assert admitted == 7


def test_a_buddy_allocator_halves_and_joins_contiguous_pieces() -> None:
    kv = Buddy(num_blocks=12, block_size=4)  # pieces of 8 and 4 blocks
    assert kv.longest == 32
    small, large, other = request(9, 1, "small"), request(20, 12, "large"), request(1, 4, "other")
    kv.admit(small)
    assert kv.blocks(small) == ((8, 9, 10, 11),), "three blocks are rounded up to four, in the smallest piece that fits"
    kv.admit(other)
    assert kv.blocks(other) == ((0, 1),), "eight blocks are halved twice"
    assert kv.num_free == 6
    assert not kv.can_admit(large), "six blocks are free, but in pieces of two and four"
    assert not kv.can_admit(request(16, 4, "five")), "five blocks need a piece of eight"
    kv.release(other)
    kv.release(other)  # without effect
    assert kv.can_admit(large)
    kv.admit(large)
    assert kv.blocks(large) == (tuple(range(8)),), "the halves joined again"
    assert kv.grow(large, 32)
    kv.release(small)
    kv.release(large)
    assert kv.num_free == 12


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=30), st.integers(8, 40))
def test_buddies_join_again_in_any_order(sizes: list[tuple[int, int]], blocks: int) -> None:
    kv, fresh = Buddy(blocks, 4), Buddy(blocks, 4)
    held = []
    for index, (prompt, output) in enumerate(sizes):
        one = request(prompt, output, f"r{index}")
        if kv.can_admit(one):
            kv.admit(one)
            (table,) = kv.blocks(one)
            assert len(table) & (len(table) - 1) == 0
            assert table[0] % len(table) == 0
            assert len(table) * 4 >= prompt + output
            held.append(one)
        elif held:
            kv.release(held.pop(prompt % len(held)))
    for one in held:
        kv.release(one)
    assert kv._pieces == fresh._pieces


def test_paged_takes_known_tokens_then_block_by_block() -> None:
    kv, one = Paged(10, 4, watermark=0), request(5, 20)
    kv.admit(one)
    assert len(kv.blocks(one)[0]) == 2
    one.computed = 5
    assert kv.grow(one, 3)
    assert len(kv.blocks(one)[0]) == 2
    one.computed = 8
    assert kv.grow(one, 1)
    assert len(kv.blocks(one)[0]) == 3


def test_paged_growth_that_fails_takes_nothing() -> None:
    kv, one = Paged(3, 4, watermark=0), request(5, 20)
    kv.admit(one)
    one.computed = 5
    assert not kv.grow(one, 100)
    assert kv.num_free == 1


def test_the_watermark_keeps_room_to_grow_but_not_from_a_request_alone() -> None:
    kv = Paged(10, 4, watermark=0.2)
    alone, second = request(40, 1, "alone"), request(12, 1, "second")
    assert kv.can_admit(alone)
    first = request(24, 1, "first")
    kv.admit(first)
    assert not kv.can_admit(second)  # 3 of the 4 free blocks would leave fewer than 2
    assert kv.can_admit(request(8, 1, "small"))


@pytest.mark.parametrize("name", KV_MANAGERS)
def test_a_manager_that_preallocates_takes_every_block_at_admission(name: str) -> None:
    kv, one = KV_MANAGERS[name](10, 4, Limits(4, 64, 20)), request(5, 15)
    kv.admit(one)
    held = kv.blocks(one)
    one.computed = 5
    assert kv.grow(one, 15)
    assert (kv.blocks(one) == held) == kv.preallocates


@pytest.mark.parametrize("name", KV_MANAGERS)
def test_a_manager_has_statistics_if_it_can_find_prefixes(name: str) -> None:
    kv, hits = KV_MANAGERS[name](10, 4, Limits(4, 64, 20)), 0
    for index in range(2):
        one = request(9, 1, f"r{index}")
        hits += kv.admit(one)
        one.computed = 9
        kv.commit(one)
    assert hits == (kv.stats.hits if kv.stats else 0)
    assert (hits > 0) == (kv.stats is not None)


@given(st.sampled_from([Reservation, Paged, Buddy]), st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=20))
def test_blocks_belong_to_one_request_each(kind: type[Reservation | Paged | Buddy], sizes: list[tuple[int, int]]) -> None:
    kv = kind(12, 4)
    admitted = []
    for index, (prompt, output) in enumerate(sizes):
        one = request(prompt, output, f"r{index}")
        if kv.can_admit(one):
            kv.admit(one)
            admitted.append(one)
        elif admitted:
            kv.release(admitted.pop(0))
    owned = [block for one in admitted for block in kv.blocks(one)[0]]
    assert len(owned) == len(set(owned))
    assert len(owned) + kv.num_free == 12
    for one in admitted:
        kv.release(one)
        kv.release(one)  # without effect
    assert kv.num_free == 12


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 4), (4, 0)])
def test_an_empty_pool_is_refused(num_blocks: int, block_size: int) -> None:
    with pytest.raises(ConfigError):
        Reservation(num_blocks, block_size)


def test_a_watermark_is_a_share() -> None:
    with pytest.raises(ConfigError, match="watermark"):
        Paged(4, 4, watermark=1)


@pytest.mark.parametrize(("blocks", "longest"), [(9, 0), (10, 40), (25, 40)])
def test_max_length_serves_requests_of_the_model_s_length_or_none(blocks: int, longest: int) -> None:
    kv = KV_MANAGERS["max-length"](blocks, 4, Limits(max_batch_size=2, max_batch_tokens=64, max_model_len=40))
    assert min(kv.longest, 40) == longest
