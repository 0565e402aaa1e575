"""How a checkpoint stores a quantised matrix: codes, and scales and zero points of blocks of them.

Every method's number is (code - zero point) · scale. They differ in how codes lie in their tensors, and in the blocks that
share a scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from orcinus.errors import ModelError
from orcinus.runtime.weight_files import TensorHeader

FLOAT_NAMES = ("F32", "BF16", "F16", "F64")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor that a module must have."""

    shapes: tuple[tuple[int, ...], ...]  # any of them
    dtypes: tuple[str, ...] = FLOAT_NAMES
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Blocks:
    """The scales of a matrix `[outputs, inputs]`, and which of them each number has."""

    scale: Tensor  # [blocks of outputs, blocks of inputs], float32
    zero: Tensor | None = None  # zero points of the same shape
    outputs: int = 1  # of a block
    inputs: int | None = None  # of a block; None: all
    group_of_input: Tensor | None = None  # `[inputs]`, where the inputs of a group are not neighbours (GPTQ's act-order)

    def integers(self, codes: Tensor, rows: Tensor, columns: range) -> Tensor:
        """Codes `[rows, columns]` less their zero points, in float32."""
        found = codes.float()
        return found if self.zero is None else found.sub_(self._spread(self.zero, rows, columns))

    def dequantize(self, codes: Tensor, rows: Tensor, columns: range) -> Tensor:
        """The numbers of codes `[rows, columns]` in float32."""
        return self.integers(codes, rows, columns).mul_(self._spread(self.scale, rows, columns))

    def of_rows(self, table: Tensor, rows: Tensor) -> Tensor:
        """The entries of some outputs, `[rows, blocks of inputs]`."""
        return table[rows // self.outputs] if len(table) > 1 else table.expand(len(rows), -1)

    def check_symmetric(self, bits: int) -> None:
        """Raise `ModelError` if zero points are not in the middle of all codes."""
        if self.zero is not None and not bool((self.zero == 2 ** (bits - 1)).all()):
            raise ModelError("it has zero points, but the settings say that its numbers are symmetric")

    def _spread(self, table: Tensor, rows: Tensor, columns: range) -> Tensor:
        """A block's entry for each number."""
        table = self.of_rows(table, rows)
        if table.shape[1] == 1:
            return table
        if self.group_of_input is not None:
            return table[:, self.group_of_input[columns.start : columns.stop]]
        assert self.inputs is not None
        first, last = columns.start // self.inputs, -(-columns.stop // self.inputs)
        start = first * self.inputs
        spread = table[:, first:last].repeat_interleave(self.inputs, dim=1)
        return spread[:, columns.start - start : columns.stop - start]


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers that a module's matrix may have."""

    bits: int
    group: int | None = None  # neighbouring inputs of an output that share a scale; None: all of them
    zero_points: bool = False  # of unsigned codes
    is_float: bool = False
    irregular: bool = (
        False  # scales for blocks of several outputs, inputs in groups that are no neighbours, or signed zero points
    )

    @property
    def words(self) -> str:
        """The grid for people."""
        if self.is_float:
            return "8-bit floats"
        return f"{self.bits} bits" + (f" in groups of {self.group}" if self.group else "")


class CodeLayout(Protocol):
    """How one module's matrix is stored; `QUANT_METHODS` lists the formats that make layouts."""

    @property
    def grid(self) -> Grid: ...

    @property
    def scale(self) -> str:
        """The tensor of scales, by the last part of its name."""
        ...

    def wanted(self, outputs: int, inputs: int) -> dict[str, Wanted]:
        """The module's tensors, by the last part of their names. Raises `ModelError` if blocks do not divide the matrix."""
        ...

    def codes(self, tensors: Mapping[str, Tensor], rows: Tensor, columns: range) -> Tensor:
        """The codes of some outputs and inputs, `[rows, columns]`, on the scale of their zero points."""
        ...

    def blocks(self, tensors: Mapping[str, Tensor], inputs: int) -> Blocks:
        """Scales and zero points."""
        ...


def check_module(name: str, layout: CodeLayout, headers: Mapping[str, TensorHeader], shape: tuple[int, int]) -> tuple[str, ...]:
    """The kinds of tensors of a module with a matrix of this shape.

    Raises `ModelError` if one is missing, misshapen or of another dtype.
    """
    try:
        needed = layout.wanted(*shape)
    except ModelError as error:
        raise ModelError(f"{name} cannot be dequantized: {error}") from None
    for kind, wanted in needed.items():
        if (found := headers.get(kind)) is None:
            if wanted.optional:
                continue
            raise ModelError(f"{name}.{kind} is missing, and without it {name} cannot be dequantized")
        if found.dtype not in wanted.dtypes:
            raise ModelError(f"{name}.{kind} is {found.dtype}, and must be {' or '.join(wanted.dtypes)}")
        if found.shape not in wanted.shapes:
            shapes = " or ".join(str(list(each)) for each in wanted.shapes)
            raise ModelError(f"{name}.{kind} has shape {list(found.shape)}, and must have {shapes} for a matrix {list(shape)}")
    return tuple(kind for kind in needed if kind in headers)


def whole_groups(inputs: int, group: int | None, what: str = "inputs") -> int:
    """Groups of a size that divides `inputs`; 1 if all share one. Raises `ModelError`."""
    if group is None:
        return 1
    if inputs % group:
        raise ModelError(f"groups of {group} do not divide {inputs} {what}")
    return inputs // group


def checked_groups(groups: Tensor, count: int) -> Tensor:
    """A g_idx tensor. Raises `ModelError` if it names a group that does not exist."""
    if len(groups) and not 0 <= int(groups.min()) <= int(groups.max()) < count:
        raise ModelError(f"g_idx names groups from {int(groups.min())} to {int(groups.max())}, and there are {count}")
    return groups.long()
