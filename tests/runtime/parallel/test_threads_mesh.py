"""Ranks as threads behave as ranks of processes do."""

from __future__ import annotations

import pytest
import torch

from orcinus.errors import EngineError
from orcinus.runtime.parallel.collectives import ALONE, Collectives
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from tests.threads_mesh import run_ranks


def test_sums_and_rows_are_of_the_ranks_of_one_stage() -> None:
    def work(place: MeshPlace, collectives: Collectives) -> tuple[float, list[float]]:
        total = collectives.all_reduce(torch.full((2, 3), float(place.rank)))
        rows = collectives.all_gather(torch.full((1, 1 + place.tensor), float(place.rank)), [1, 2])
        return total[1, 2].item(), rows[0].tolist()

    assert run_ranks(Mesh(tp=2, pp=2), work) == [(1, [0, 1, 1]), (1, [0, 1, 1]), (5, [2, 3, 3]), (5, [2, 3, 3])]


def test_several_batches_may_be_on_their_way_to_the_next_stage() -> None:
    def work(place: MeshPlace, collectives: Collectives) -> list[float]:
        if place.first:
            for batch in range(3):
                collectives.send(torch.full((2, 2), 10.0 * place.tensor + batch))
            return []
        return [collectives.recv((2, 2), torch.float32)[0, 0].item() for _ in range(3)]

    assert run_ranks(Mesh(tp=2, pp=2), work) == [[], [], [0, 1, 2], [10, 11, 12]]


def test_an_error_of_one_rank_ends_the_others_and_is_raised() -> None:
    def work(place: MeshPlace, collectives: Collectives) -> None:
        if place.rank == 1:
            raise ValueError("rank 1 failed")
        collectives.all_reduce(torch.zeros(1)) if place.first else collectives.recv((1,), torch.float32)

    with pytest.raises(ValueError, match="rank 1 failed"):
        run_ranks(Mesh(tp=2, pp=2), work)


def test_a_rank_that_never_comes_is_an_error_in_time() -> None:
    def work(place: MeshPlace, collectives: Collectives) -> None:
        if place.rank == 0:
            collectives.all_reduce(torch.zeros(1))

    with pytest.raises(EngineError, match="peer of rank 0"):
        run_ranks(Mesh(tp=2), work, timeout_s=0.1)


def test_a_mesh_of_one_rank_works_alone() -> None:
    assert run_ranks(Mesh(), lambda place, collectives: collectives is ALONE) == [True]
