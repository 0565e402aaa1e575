"""What ranks do together. Every rank of a stage calls the same methods in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Collectives(Protocol):
    """Exchange of activations between the ranks of a mesh.

    Every call has a bound in time and raises `EngineError` when it is over: the ranks wait for each other, so one that is
    dead or stuck must not hold up the others for ever.
    """

    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum of `x` over the tensor ranks of this stage, in place; the same bits on each of them."""
        ...

    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        """`[n, widths[r]]` of each tensor rank r -> `[n, sum(widths)]` on all of them, in the order of the ranks."""
        ...

    def send(self, x: Tensor) -> None:
        """Hand `x` to the same tensor rank of the next stage. May return before it has arrived."""
        ...

    def recv(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """What the stage before sends next."""
        ...

    def close(self) -> None:
        """Give back sockets and shared memory."""
        ...


class Alone:
    """The collectives of a device that holds everything."""

    def all_reduce(self, x: Tensor) -> Tensor:
        return x

    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return x

    def send(self, x: Tensor) -> None:
        raise AssertionError("there is no next stage")

    def recv(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        raise AssertionError("there is no stage before")

    def close(self) -> None:
        """Nothing to close."""


ALONE = Alone()
