"""Tensors of weight files on their way into a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class StoredTensor(Protocol):
    """A tensor of a weight file, in whatever format the file has it."""

    def copy_to(self, target: Tensor, region: tuple[slice | int, ...], *, transposed: bool) -> None:
        """Fill `target` with a region of the tensor, in the dtype of the target.

        The region, () for all, is counted in the transposed tensor if it is `transposed`; the target is not.
        """
        ...


@dataclass(frozen=True, slots=True)
class MappedTensor:
    """A tensor that is a view of its file."""

    tensor: Tensor
    rows: Tensor | None = None  # the file's row for each of the decoder's; None = they are in the same order

    def copy_to(self, target: Tensor, region: tuple[slice | int, ...], *, transposed: bool) -> None:
        if self.rows is not None:
            rows, *columns = region or (slice(None),)
            put(self.tensor[self.rows[rows]][(slice(None), *columns)], target, transposed=transposed)
            return
        here = self.tensor.t()[region].t() if transposed else self.tensor[region]
        put(here, target, transposed=transposed)


def put(tensor: Tensor, target: Tensor, *, transposed: bool) -> None:
    """Copy a file's tensor into its place, in the place's dtype.

    The narrower of the two formats crosses to the device: a tensor whose numbers are no wider than the model's is converted and
    transposed there, a wider one before, because torch converts such copies on the CPU.
    """
    as_it_is = tensor.dtype == target.dtype and not transposed
    if not as_it_is and tensor.dtype.itemsize <= target.dtype.itemsize:
        tensor = tensor.to(target.device)
    target.copy_(tensor.t() if transposed else tensor)
