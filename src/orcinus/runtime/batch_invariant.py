"""Products whose rows do not depend on how many rows there are (batch invariance: He et al., Thinking Machines, 2025).

A library chooses its kernel by the number of rows, and another kernel may add in another order. Which numbers of rows agree
is found by trying them, once for each size of weight. Products that agree in all (`ALWAYS`) stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.grouped_weights import GroupedWeight
from orcinus.runtime.int8_weights import Int8Weight
from orcinus.runtime.linear_weight import LinearWeight, Split
from orcinus.runtime.models import Decoder
from orcinus.runtime.models.linear import Linear
from orcinus.runtime.panel_weights import PanelWeight

ALWAYS = PanelWeight, Int8Weight, GroupedWeight  # sums in one order, or of integers
TRIED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 128, 129, 256, 512)
LIMITS = (512, 256, 128, 64, 32, 16, 8)  # of rows in one product
WORK = 2**34  # multiplications of the largest product that is tried: a fraction of a second


@dataclass(frozen=True, slots=True)
class InvariantRows:
    """The numbers of rows in one product that give each row the same bits."""

    least: int
    most: int


class BatchInvariantWeight:
    """A weight that multiplies in products of `rows` rows only."""

    def __init__(self, weight: LinearWeight, rows: InvariantRows) -> None:
        self._weight, self._rows = weight, rows
        self.shape, self.dtype, self.num_bytes, self.split = weight.shape, weight.dtype, weight.num_bytes, weight.split

    shape: tuple[int, int]
    dtype: torch.dtype
    num_bytes: int
    split: Split

    def tensors(self) -> Mapping[str, Tensor]:
        return self._weight.tensors()

    def split_dim(self, name: str) -> int | None:
        return self._weight.split_dim(name)

    def part(self, name: str, part: int | None) -> Tensor:
        return self._weight.part(name, part)

    def process_after_loading(self) -> LinearWeight:
        return self

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if len(x) > self._rows.most:
            return torch.cat([self.multiply(rows, bias) for rows in torch.split(x, self._rows.most)])
        if 0 < len(x) < self._rows.least:
            padded = torch.cat((x, x.new_zeros(self._rows.least - len(x), x.shape[1])))
            return self._weight.multiply(padded, bias)[: len(x)]
        return self._weight.multiply(x, bias)


def make_batch_invariant(model: Decoder, dtype: torch.dtype) -> None:
    """Make the weights of all linear layers of a loaded model batch-invariant, if they are not.

    Raises `ConfigError` if this machine's products are not to be had so.
    """
    found: dict[tuple[type, torch.dtype, tuple[int, int]], InvariantRows] = {}
    for module in model.modules():
        if isinstance(module, Linear) and not isinstance(module.weight, ALWAYS):
            kind = type(module.weight), module.weight.dtype, module.weight.shape
            if kind not in found:
                found[kind] = invariant_rows(module.weight, dtype)
            module.weight = BatchInvariantWeight(module.weight, found[kind])


def invariant_rows(weight: LinearWeight, dtype: torch.dtype) -> InvariantRows:
    """The numbers of rows whose products agree, found by trying. Raises `ConfigError` if there are none.

    All rows of a product are equal, and a bias takes away what the first product gives, so that the rounded rest shows the
    last bits of the sums even in a narrow format.
    """
    outputs, inputs = weight.shape
    tried = [rows for rows in TRIED if rows <= 8 or rows * outputs * inputs <= WORK]
    row = torch.randn(inputs, generator=torch.Generator().manual_seed(0)).to(dtype)

    def product(rows: int, bias: Tensor | None) -> Tensor:
        return weight.multiply(row.expand(rows, -1).contiguous(), bias)

    rest = -product(2, None)[0]
    expected = product(2, rest)
    agree = {rows for rows in tried if bool((product(rows, rest) == expected[:1]).all())}
    for most in LIMITS:
        if most in tried and all(rows in agree for rows in tried if 1 < rows <= most):
            return InvariantRows(1 if 1 in agree else 2, most)
    raise ConfigError(
        f"products of {inputs} inputs and {outputs} outputs depend on the number of rows on this machine, even of few: "
        "leave out deterministic"
    )
