"""Products whose rows have the same bits however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.batch_invariant import TRIED, BatchInvariantWeight, InvariantRows, invariant_rows
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart
from orcinus.runtime.models.linear import PlainWeight

OUTPUTS, INPUTS = 24, 320


class Fickle:
    """A weight that adds in another order if `reverses` says so for a number of rows."""

    dtype, num_bytes, shape = torch.float32, 4 * OUTPUTS * INPUTS, (OUTPUTS, INPUTS)
    split = Split(SplitKind.COLUMN, (SplitPart(OUTPUTS, OUTPUTS),))

    def __init__(self, reverses: Callable[[int], bool]) -> None:
        self.weight = torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(1))
        self.reverses = reverses
        self.seen: list[int] = []

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        self.seen.append(len(x))
        terms = x[:, None].double() * self.weight.double()
        terms = (terms.flip(-1) if self.reverses(len(x)) else terms).float()
        total = torch.zeros(len(x), OUTPUTS)
        for place in range(INPUTS):
            total = total + terms[..., place]
        return total if bias is None else total + bias


@pytest.mark.parametrize(
    ("reverses", "rows"),
    [
        (lambda rows: False, InvariantRows(1, 512)),
        (lambda rows: rows == 1, InvariantRows(2, 512)),
        (lambda rows: rows > 32, InvariantRows(1, 32)),
        (lambda rows: rows in (1, 48), InvariantRows(2, 32)),
    ],
)
def test_which_numbers_of_rows_agree_is_found_by_trying(reverses: Any, rows: InvariantRows) -> None:
    assert invariant_rows(Fickle(reverses), torch.float32) == rows  # type: ignore[arg-type]


def test_products_that_never_agree_are_refused() -> None:
    with pytest.raises(ConfigError, match="320 inputs and 24 outputs depend on the number of rows"):
        invariant_rows(Fickle(lambda rows: rows % 2 == 1), torch.float32)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 9, 17])
def test_rows_are_multiplied_in_numbers_that_agree(count: int) -> None:
    plain = Fickle(lambda rows: rows == 1 or rows > 8)
    weight = BatchInvariantWeight(plain, InvariantRows(2, 8))  # type: ignore[arg-type]
    x = torch.randn(count, INPUTS)
    expected = [plain.multiply(row.expand(2, -1), None)[0] for row in x]
    plain.seen.clear()
    found = weight.multiply(x, None)
    assert found.shape == (count, OUTPUTS)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert all(2 <= rows <= 8 for rows in plain.seen if rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(48, 1600), (576, 576)])
def test_what_was_found_holds_for_real_products(shape: tuple[int, int], dtype: torch.dtype) -> None:
    draws = torch.Generator().manual_seed(2)
    split = Split(SplitKind.COLUMN, (SplitPart(shape[0], shape[0]),))
    real = PlainWeight(torch.randn(shape, generator=draws).to(dtype), split).process_after_loading()
    if isinstance(real, PlainWeight):
        pytest.skip("weights are not packed here")
    weight = BatchInvariantWeight(real, invariant_rows(real, dtype))
    x = torch.randn(max(TRIED), shape[1], generator=draws).to(dtype)
    whole = weight.multiply(x, None)
    for rows in (1, 2, 37, 100):
        assert torch.equal(weight.multiply(x[:rows], None), whole[:rows])
