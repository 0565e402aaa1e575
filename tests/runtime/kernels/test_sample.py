"""Random tokens: the same as `runtime.sampling.sample` takes, whatever the filters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orcinus.core.executor_state import Row
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime import sampling
from orcinus.runtime.kernels.argmax import PIECE
from orcinus.runtime.kernels.sample import Wishes, sample
from tests.examples import examples
from tests.product import part
from tests.seam import row as drawn


def rows_of(params: list[dict[str, Any]], position: int) -> tuple[Wishes, bool, list[Row]]:
    """Wishes for the kernel, and the same as rows. Row i draws for position + i."""
    all_params = [SamplingParams(**{"seed": 0, **some}) for some in params]
    rows = [drawn((0,), 1, some, position + i) for i, some in enumerate(all_params)]

    def column(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor([getattr(some, name) for some in all_params], dtype=dtype)

    wishes = Wishes(
        column("temperature"),
        column("top_k", torch.int32),
        column("top_p"),
        column("min_p"),
        column("seed", torch.int64),
        torch.arange(position, position + len(params)),
    )
    return wishes, any(some.top_k > 0 or some.top_p < 1 or some.min_p > 0 for some in all_params), rows


def compare(logits: Tensor, params: list[dict[str, Any]], position: int = 1) -> None:
    wishes, filtered, rows = rows_of(params, position)
    wanted = sampling.sample(logits.clone(), rows).tokens
    assert sample(logits, wishes, filtered)[0].tolist() == wanted


ANY_PARAMS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.2, 0.7, 1.0, 1.7]),
        "top_k": st.sampled_from([-1, 0, 1, 3, 20, 10**6]),
        "top_p": st.sampled_from([1.0, 0.95, 0.5, 1e-9]),
        "min_p": st.sampled_from([0.0, 0.0, 0.05, 1.0]),
        "seed": st.integers(-(2**63), 2**63 - 1),
    }
)


@examples(20)
@given(st.lists(ANY_PARAMS, min_size=1, max_size=3), st.integers(0, 10**6), st.integers(2, 150))
def test_any_mixture_of_rows(params: list[dict[str, Any]], seed: int, size: int) -> None:
    compare(4 * torch.randn(len(params), size, generator=torch.Generator().manual_seed(seed)), params, position=seed + 1)


@pytest.mark.parametrize("some", part({"top_k": 500, "top_p": 0.8, "min_p": 0.01}, full=[{}, {"top_p": 0.9}, {"top_k": 50}]))
def test_a_vocabulary_of_several_pieces(some: dict[str, Any]) -> None:
    logits = 3 * torch.randn(3, 2 * PIECE + 100, generator=torch.Generator().manual_seed(1))
    compare(logits, [some] * 3, position=100)


@pytest.mark.parametrize("some", part({"top_p": 0.97}, full=[{"top_k": PIECE + 300, "top_p": 0.99}, {"min_p": 0.5}]))
def test_a_flat_row_is_searched_whole(some: dict[str, Any]) -> None:
    """More tokens are left than are gathered (`candidates.MOST`)."""
    compare(0.1 * torch.randn(1, PIECE + 500, generator=torch.Generator().manual_seed(2)), [some], 9)


EQUAL = part({"top_k": 9, "top_p": 0.6}, full=[{}, {"min_p": 0.2}, {"top_p": 0.5}, {"top_p": 0.75}, {"top_k": 5}, {"top_k": 1}])


@pytest.mark.parametrize("some", EQUAL, ids=str)
def test_equal_logits_keep_the_order_of_their_ids(some: dict[str, Any]) -> None:
    """Values that repeat, down to all being equal."""
    for levels in (1, 2, 8):
        logits = torch.randint(levels, (1, 64), generator=torch.Generator().manual_seed(levels)).float()
        compare(logits, [some], position=50)


@pytest.mark.parametrize(
    ("params", "kept"),
    part(
        ({"top_p": 0.71}, [0, 1, 2]),
        ({"top_k": 3, "top_p": 0.8}, [0, 1]),
        full=[
            ({"top_k": 2}, [0, 1]),
            ({"top_k": 5}, [0, 1, 2, 3, 4]),
            ({"top_p": 0.69}, [0, 1]),
            ({"top_p": 1e-30}, [0]),
            ({"min_p": 0.3}, [0, 1, 2]),
            ({"top_k": 99, "min_p": 0.9}, [0]),
        ],
    ),
)
def test_filters_keep_the_likely_and_renormalise(params: dict[str, Any], kept: list[int]) -> None:
    order = torch.tensor([3, 0, 4, 2, 1])  # where each of them stands in the vocabulary
    p = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    logits = torch.empty(5).scatter_(0, order, p.log()).repeat(4, 1)
    wishes, filtered, rows = rows_of([params] * 4, 1)
    found = sample(logits, wishes, filtered)[0].tolist()
    assert set(found) <= set(order[kept].tolist())
    assert found == sampling.sample(logits.clone(), rows).tokens


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.999}, {"top_k": 30}, {"min_p": 1e-6}])
def test_forbidden_tokens_are_never_drawn(filters: dict[str, Any]) -> None:
    logits = torch.full((4, 32), -torch.inf)
    logits[:, [5, 9]] = torch.tensor([1.0, 0.0])
    wishes, filtered, _ = rows_of([{"temperature": 1.5, **filters}] * 4, 1)
    assert set(sample(logits, wishes, filtered)[0].tolist()) == {5, 9}


def test_a_damaged_row_harms_no_other_row() -> None:
    logits = torch.randn(4, 40)
    params: list[dict[str, Any]] = [{}, {"top_p": 0.9}, {"top_k": 3}, {"temperature": 0}]
    wishes, filtered, rows = rows_of(params, 7)
    wanted = sampling.sample(logits.clone(), rows).tokens
    for row, poison in ((0, torch.nan), (1, torch.inf), (2, -torch.inf)):
        broken = logits.clone()
        broken[row] = poison
        tokens, peaks = sample(broken, wishes, filtered)
        assert torch.isfinite(peaks).tolist() == [index != row for index in range(4)]
        others = [index for index in range(4) if index != row]
        assert tokens[others].tolist() == [wanted[index] for index in others]


def test_a_narrow_dtype_is_widened_and_rows_may_be_strided() -> None:
    wide = torch.randn(3, 90).bfloat16()
    wishes, filtered, rows = rows_of([{}, {"top_p": 0.9}, {"temperature": 0}], 5)
    wanted = sampling.sample(wide[:, :60].float(), rows).tokens
    assert sample(wide[:, :60], wishes, filtered)[0].tolist() == wanted


def test_no_rows() -> None:
    wishes, _, _ = rows_of([], 1)
    assert sample(torch.empty(0, 9), wishes, True)[0].shape == (0,)
