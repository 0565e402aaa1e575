"""The device's uniform numbers are those of the host, bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.runtime.kernels.philox import uniform
from orcinus.runtime.random import uniform as on_the_host
from tests.examples import examples

WORDS = st.integers(-(2**63), 2**63 - 1)


def ours(seeds: list[int], positions: list[int]) -> list[float]:
    return [float(u) for u in uniform(torch.tensor(seeds), torch.tensor(positions))]


@examples(50)
@given(st.lists(st.tuples(WORDS, st.integers(0, 2**63 - 1)), min_size=1, max_size=50))
def test_any_seed_and_position(pairs: list[tuple[int, int]]) -> None:
    seeds, positions = map(list, zip(*pairs, strict=True))
    assert ours(seeds, positions) == on_the_host(seeds, positions).tolist()


def test_the_edges_of_words() -> None:
    edges = [0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, -(2**63), -(2**32)]
    seeds = [seed for seed in edges for _ in range(len(edges))]
    positions = [abs(position) % 2**63 for position in edges] * len(edges)
    assert ours(seeds, positions) == on_the_host(seeds, positions).tolist()


def test_ten_thousand_positions_of_some_seeds() -> None:
    for seed in (0, 7, -(2**40) - 3):
        many = uniform(torch.full((10_000,), seed), torch.arange(10_000)).numpy()
        assert np.array_equal(many, on_the_host([seed] * 10_000, range(10_000)))


def test_no_pairs() -> None:
    assert ours([], []) == []
