"""The tokens that a filter can leave: all of them are found, in the order of their ids, or the whole row is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orcinus.runtime.kernels.argmax import PIECE, argmax, survey
from orcinus.runtime.kernels.candidates import MOST, Candidates, gather
from tests.product import part

SIZE = 2 * PIECE + 50


def candidates(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Candidates:
    ones = torch.ones(len(logits))
    filters = ones * temperature, torch.full((len(logits),), top_k, dtype=torch.int32), ones * top_p, ones * min_p
    return gather(logits, filters, survey(logits, filters[0]), argmax(logits)[1])


def rows(spread: float) -> Tensor:
    return spread * torch.randn(2, SIZE, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "filters",
    part(
        {"top_p": 0.9},
        {"top_k": 40},
        {"min_p": 0.01},
        {"top_k": 9, "top_p": 0.2, "min_p": 0.01},
        full=[
            {"top_k": 40, "top_p": 0.5},
            {"top_p": 0.99, "min_p": 0.3},
            {"top_p": 0.2, "min_p": 0.01},
            {"top_k": 400, "top_p": 0.2, "min_p": 0.1},
            {"top_p": 1e-9},
        ],
    ),
)
@pytest.mark.parametrize("temperature", [0.6, 1.5])
def test_what_the_filters_leave_is_among_them(filters: dict[str, float], temperature: float) -> None:
    logits = rows(4.0)
    found = candidates(logits, temperature, **filters)  # type: ignore[arg-type]
    for row, size in enumerate(found.sizes.tolist()):
        assert 0 < size <= MOST
        ids = found.ids[row, :size]
        assert torch.equal(found.logits[row, :size], logits[row, ids])
        assert (ids.diff() > 0).all()
        p, order = torch.softmax(logits[row].double() / temperature, dim=-1).sort(descending=True)
        left = (torch.arange(SIZE) < (filters.get("top_k") or SIZE)) & (p >= filters.get("min_p", 0) * p[0])
        assert set(order[left].tolist()) <= set(ids.tolist()) or not filters.keys() & {"top_k", "min_p"}, "top_p's whole"
        p = p * left / (p * left).sum()
        left &= p.cumsum(0) - p < filters.get("top_p", 1)
        assert set(order[left].tolist()) <= set(ids.tolist())


def test_a_flat_row_is_left_whole() -> None:
    assert candidates(rows(0.1), top_p=0.99).sizes.tolist() == [0, 0]


def test_forbidden_tokens_are_no_candidates() -> None:
    logits = rows(4.0)
    logits[:, 10:] = -torch.inf
    found = candidates(logits, top_k=10)
    assert found.sizes.tolist() == [10, 10]
